"""What an idle node costs: CPU time and memory of our processes and etcd.

Rule of the file: a node's processes are those of its PID namespace; CPU time includes that of children that have ended.
Source: proc(5), /proc/PID/stat and /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.errors import LabBroken

COUNTED = ("holdfastd", "holdfast-guard", "etcd")
BESIDE = ("libvirtd",)
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one program, summed over its processes: percent of one core, and MiB of proportional set size."""

    cpu_percent: float
    pss_mib: float


async def idle_cost(init_pid: int, sample_s: float) -> dict[str, Cost]:
    """Return what each program of a node costs, over the next `sample_s`; `init_pid` is the node's init."""
    namespace = _namespace(init_pid)
    before = _ticks(namespace)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(sample_s)
    lasted_ticks = (loop.time() - began) * os.sysconf("SC_CLK_TCK")
    after = _ticks(namespace)
    cpu: dict[str, float] = defaultdict(float)
    memory: dict[str, float] = defaultdict(float)
    for (pid, name), ticks in after.items():
        cpu[name] += 100 * (ticks - before.get((pid, name), ticks)) / lasted_ticks
        memory[name] += _pss_kib(pid) / 1024
    return {name: Cost(cpu_percent=cpu[name], pss_mib=memory[name]) for name in cpu}


def total(costs: dict[str, Cost]) -> Cost:
    """Return the cost of the cluster's own processes. Raises: LabBroken when one of them does not run."""
    if missing := [name for name in COUNTED if name not in costs]:
        raise LabBroken(f"{', '.join(missing)} did not run on an idle node, so it has no cost")
    counted = [costs[name] for name in COUNTED]
    return Cost(cpu_percent=sum(one.cpu_percent for one in counted), pss_mib=sum(one.pss_mib for one in counted))


def _ticks(namespace: str) -> dict[tuple[int, str], int]:
    """Return the CPU time of each process of a PID namespace, with that of the children it has reaped."""
    return {(pid, name): sum(ticks) for pid, name, ticks in _processes(namespace)}


def _processes(namespace: str) -> Iterator[tuple[int, str, list[int]]]:
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        try:
            if _namespace(pid) == namespace and (name := _program(pid)):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield pid, name, [int(word) for word in fields[11:15]]
        except OSError:
            continue


def _namespace(pid: int) -> str:
    return str((_PROC / str(pid) / "ns" / "pid").readlink())


def _program(pid: int) -> str:
    """Return the known program that a process runs, as itself or as Python code; empty for all others."""
    words = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    if any("holdfast.fencing.guard" in word for word in words):
        return "holdfast-guard"  # it starts Python anew, without the environment, and so without its own name
    return next((name for word in words[:2] if (name := Path(word).name) in (*COUNTED, *BESIDE)), "")


def _pss_kib(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
