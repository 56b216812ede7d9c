"""What the guests' own disks prove about who ran when.

Rule of the file: two instances of a guest overlapped if either says so without any clock, or if their times intersect
by more than the guests' clocks can err. The records are written by ``guest/agent.pl``, whose head describes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SLOT_BYTES = 4096
AREA_BYTES = 4 << 20
"""How much of a disk the slots take at most; a larger one carries a journal behind them (``journal.py``)."""
CLOCK_ERROR_MS = 750
"""A guest learns the host's time from an RTC that ticks in seconds; two guests' clocks differ by less than this."""
_WORD = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One instance of a guest, from its start to its last write that reached the disk."""

    boot_id: str
    slot: int
    beats: int
    first_ms: int
    """Host's wall clock at its first record, milliseconds since 1970."""
    latest_ms: int
    is_stopped: bool
    """Whether it shut down in an orderly way."""
    saw: tuple[str, ...]
    """What it saw of other instances: ``earlier:ID``, ``later:ID``, ``shared:ID``, ``rewound:BEATS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The proof that a guest ran twice at once."""

    boot_id: str
    evidence: str

    def __str__(self) -> str:
        return f"boot {self.boot_id}: {self.evidence}"


def parse(disk: Path) -> list[Boot]:
    """Return all instances that wrote to a guest's raw disk, in the order in which they took their slots."""
    with disk.open("rb") as file:
        raw = file.read(AREA_BYTES)
    texts = (raw[start : start + 512] for start in range(0, len(raw), SLOT_BYTES))
    return [_boot(text.partition(b"\n")[0].decode(errors="replace")) for text in texts if text.strip(b"\0")]


def _boot(text: str) -> Boot:
    if not text.startswith("hf1 "):
        raise ValueError(f"the disk holds {text[:40]!r}, wanted a record that begins with 'hf1'")
    words = dict(_WORD.findall(text))
    return Boot(
        boot_id=words["boot"],
        slot=int(words["slot"]),
        beats=int(words["beats"]),
        first_ms=int(words["first_ms"]),
        latest_ms=int(words["latest_ms"]),
        is_stopped=words["state"] == "stopped",
        saw=tuple(filter(None, words["saw"].split(","))),
    )


def overlaps(boots: Iterable[Boot]) -> list[Overlap]:
    """Return every proof of two instances at once; empty means none ran twice. Source: SAFE-1."""
    found: list[Overlap] = []
    latest: Boot | None = None
    for boot in boots:
        found += [Overlap(boot_id=boot.boot_id, evidence=f"saw {what}") for what in boot.saw]
        if latest is not None and boot.first_ms + CLOCK_ERROR_MS < latest.latest_ms:
            early = latest.latest_ms - boot.first_ms
            found.append(
                Overlap(boot_id=boot.boot_id, evidence=f"began {early} ms before the end of boot {latest.boot_id}")
            )
        if latest is None or boot.latest_ms > latest.latest_ms:
            latest = boot
    return found


def overlaps_on(disk: Path) -> list[Overlap]:
    """Return every proof, found on a guest's disk, that it ran twice at once."""
    return overlaps(parse(disk))
