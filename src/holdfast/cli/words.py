"""How values read: sizes, times, lists, and text that others wrote."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from holdfast.model.transfers import Transfer

_CONTROL: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127, *range(128, 160)) if code not in b"\t\n"
}


def printable(text: str, *, one_line: bool = False) -> str:
    """Return the text without control characters: what a fence device or a guest says must not steer the terminal."""
    return (" ".join(text.splitlines()) if one_line else text).translate(_CONTROL)


def size(count: int | None) -> str:
    """Return a number of bytes as people read it; "-" when it is not known."""
    if count is None:
        return "-"
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GiB"
    return f"{count / (1 << 20):.0f} MiB"


def moment(at_ms: int | None) -> str:
    """Return a wall-clock time in this machine's zone, to the minute; "-" when there is none."""
    return _local(at_ms).strftime("%Y-%m-%d %H:%M") if at_ms else "-"


def instant(at_ms: int) -> str:
    """Return a wall-clock time in this machine's zone, to the millisecond."""
    return _local(at_ms).isoformat(sep=" ", timespec="milliseconds")[:23]


def count(number: int, one: str) -> str:
    """Return "1 node", "2 nodes"."""
    return f"{number} {one if number == 1 else one + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return "a, b", or "-" when there are none."""
    return ", ".join(names) or "-"


def transfer_words(transfer: Transfer) -> str:
    """Return how far memory has come, how fast it goes, and how long it will take."""
    if transfer.bytes_total <= 0:
        return "it begins"
    words = [f"{transfer.percent} % of {size(transfer.bytes_total)}"]
    if transfer.bytes_per_s is not None:
        words.append(f"{size(transfer.bytes_per_s)}/s")
    if transfer.dirty_bytes_per_s is not None:
        words.append(f"the guest changes {size(transfer.dirty_bytes_per_s)}/s")
    if transfer.time_left_ms is not None:
        words.append(f"{transfer.time_left_ms / 1000:.0f} s left")
    return ", ".join(words)


def _local(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000).astimezone()
