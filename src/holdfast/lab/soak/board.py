"""A page of memory that a light node shares with the rig: switches for the node, acknowledged records for the rig.

Rule of the file: it works while the node is stopped, and needs no answer. The rig writes the switches, the node
the rest.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

BOARD_BYTES: Final = 4096
_SWITCHES: Final = {"cluster-cut": 0, "blunt-guard": 1, "rival": 2}
_ACKNOWLEDGED: Final = struct.Struct("=8sQQ")
_FIRST: Final = 64


class Board:
    """One node's page."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BOARD_BYTES)

    @staticmethod
    def make(path: Path) -> Board:
        """Make an empty page."""
        path.write_bytes(bytes(BOARD_BYTES))
        return Board(path)

    def is_on(self, switch: str) -> bool:
        """Whether a switch is on."""
        return self._memory[_SWITCHES[switch]] != 0

    def turn(self, switch: str, *, on: bool) -> None:
        """Turn a switch."""
        self._memory[_SWITCHES[switch]] = int(on)

    def acknowledge(self, role: int, *, instance: str, region: int, number: int) -> None:
        """The disk acknowledged this record of the guest of a role."""
        at = _FIRST + role * _ACKNOWLEDGED.size
        _ACKNOWLEDGED.pack_into(self._memory, at, instance.encode(), region, number)

    def acknowledged(self, role: int) -> tuple[str, int, int]:
        """The newest acknowledged record of a role: instance (empty: none yet), region and number."""
        at = _FIRST + role * _ACKNOWLEDGED.size
        instance, region, number = _ACKNOWLEDGED.unpack_from(self._memory, at)
        return instance.rstrip(b"\0").decode(), region, number
