"""Without libvirt's binding everything else works, and asking for it says what to install."""

import subprocess
import sys

PROGRAM = """
import asyncio, sys
sys.modules["libvirt"] = None
from holdfast.hypervisor.errors import HypervisorUnavailable
from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.libvirt_library import libvirt_module

async def main():
    host = LibvirtHost()
    keeping = asyncio.create_task(host.run())
    await asyncio.sleep(0.3)
    try:
        await host.guests()
    except HypervisorUnavailable as error:
        print(error.message)
    keeping.cancel()
    await asyncio.wait([keeping])

asyncio.run(main())
try:
    libvirt_module()
except HypervisorUnavailable as error:
    print(error.hint)
"""


def test_a_missing_binding_names_the_package() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert "cannot be imported" in answer.stdout
    assert "apt-get install python3-libvirt" in answer.stdout
    assert answer.stderr == ""
