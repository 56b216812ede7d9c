"""Whether KVM really works here.

Rule of the file: ``/dev/kvm`` proves nothing (it may exist and hang); a guest that wrote its first record does. The
answer holds for one boot of the machine.
"""

from __future__ import annotations

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from pathlib import Path

from holdfast.lab.image import GuestImage
from holdfast.lab.layout import IMAGE_CACHE
from holdfast.lab.records import AREA_BYTES

QEMU = "/usr/bin/qemu-system-x86_64"
KERNEL_OPTIONS = (
    "console=ttyS0 quiet panic=1 no_timer_check tsc=reliable nosmp nokaslr mitigations=off audit=0 cryptomgr.notests"
    " pci=noacpi"
)
"""What saves an emulated guest time at boot; running the firmware's PCI methods alone takes it a second."""
PROBE_LIMIT_S = 10.0
DISK_BYTES = AREA_BYTES


async def probe_kvm(image: GuestImage, progress: Callable[[str], None]) -> bool:
    """Return whether a guest boots under KVM; asked once per boot of the machine."""
    if not Path("/dev/kvm").exists():
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = IMAGE_CACHE / f"kvm-{boot_id}"
    if not known.exists():
        progress("trying whether KVM works, by booting a guest")
        known.write_text("works" if await _boots_under_kvm(image) else "does not work")
    return known.read_text() == "works"


async def _boots_under_kvm(image: GuestImage) -> bool:
    with tempfile.NamedTemporaryFile(dir=IMAGE_CACHE) as disk:
        disk.truncate(DISK_BYTES)
        process = await asyncio.create_subprocess_exec(
            QEMU, "-machine", "pc,accel=kvm", "-m", "128", "-nodefaults", "-display", "none",
            "-kernel", str(image.kernel), "-initrd", str(image.initramfs),
            "-append", f"{KERNEL_OPTIONS} lab.name=probe lab.address=10.0.2.15/24",
            "-drive", f"file={disk.name},if=virtio,format=raw",
            "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=",
            stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                while process.returncode is None:
                    if Path(disk.name).read_bytes()[:4] == b"hf1 ":
                        return True
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    return False
