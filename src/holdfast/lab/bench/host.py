"""The machine that a benchmark runs on: what it is, and when it is quiet.

Rule of the file: values as the machine itself tells them; a program that is missing is told as such.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast import __version__
from holdfast.lab.errors import LabBroken
from holdfast.lab.tools import run_tool

_SAMPLE_S = 1.0


async def describe_host(*, has_kvm: bool) -> dict[str, Any]:
    """Return the facts that a reader needs to judge the numbers."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "kernel": platform.release(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "accel": "kvm" if has_kvm else "tcg",
        "versions": {
            "holdfast": __version__,
            "python": platform.python_version(),
            "etcd": await _version("etcd", "--version"),
            "libvirt": await _version("libvirtd", "--version"),
            "qemu": await _version("qemu-system-x86_64", "--version"),
        },
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


async def _version(*command: str) -> str:
    try:
        words = (await run_tool(*command)).splitlines()[0].split()
    except (LabBroken, FileNotFoundError, IndexError):
        return "missing"
    return next((word for word in words if word[0].isdigit()), " ".join(words))


def _busy_ticks() -> int:
    """Ticks that all cores together spent on anything but idling, since boot."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4]


async def busy_percent(sample_s: float = _SAMPLE_S) -> float:
    """Return how busy the machine is, over the next moment: 100 is all cores."""
    before = _busy_ticks()
    await asyncio.sleep(sample_s)
    ticks = os.sysconf("SC_CLK_TCK") * sample_s * (os.cpu_count() or 1)
    return min(100.0, 100 * (_busy_ticks() - before) / ticks)


async def wait_quiet(
    *, limit_percent: float, limit_s: float, progress: Callable[[str], None] = lambda _line: None
) -> float:
    """Wait until the machine is less busy than the limit, at most so long; returns how busy it is then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    while (busy := await busy_percent()) > limit_percent and loop.time() < until:
        pass
    if busy > limit_percent:
        progress(f"the machine stays {busy:.0f} % busy; measuring all the same")
    return busy
