"""What this node's member of the database has surely stored, noted beside its data: an older copy of it must not vote.

Rule of the file: an index is noted once a later one was seen. A member tells of an entry while it still stores it, and
begins with the next only when it has. What is noted may be lost with the power: then less is known, and nothing wrong.
Source: SAFE-4; etcd, server/storage/wal and raftpb (write-ahead log), api/etcdserverpb (StatusResponse.raftIndex).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

NOTE_S: Final = 5.0
"""How far a member is gets noted so often at most."""

METADATA: Final = 1
ENTRY: Final = 2
SNAPSHOT: Final = 5
"""Kinds of records in a write-ahead log. Source: etcd, server/storage/wal/wal.go."""
_FRAME: Final = 8
_SIZE: Final = (1 << 56) - 1
_SHORTEST: Final = 2
_KIND: Final = 0x08
"""The key of a record's first field, its kind, which is below 128: one byte each."""
_DATA: Final = 3
_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How far a member has stored the decisions of the database, by their index."""

    member: int
    index: int


def read_log(data_dir: Path) -> Stored | None:
    """Return how far a member's folder goes; None when nothing can be read there. Takes a second for a large one."""
    member, last = 0, 0
    for file in sorted((data_dir / "member" / "wal").glob("*.wal"), reverse=True):
        newest = _newest_records(file)
        member = member or _numbers(newest.get(METADATA)).get(1, 0)
        last = max(_numbers(newest.get(ENTRY)).get(3, 0), _numbers(newest.get(SNAPSHOT)).get(1, 0))
        if last:
            break
    return Stored(member=member, index=last) if member else None


class SurelyStored:
    """What a member has surely stored, from how far it says that it is."""

    def __init__(self) -> None:
        self._seen: Stored | None = None
        self._sure: Stored | None = None
        self._noted: Stored | None = None
        self._due = float("-inf")

    def saw(self, seen: Stored, now: float) -> Stored | None:
        """Tell how far it says that it is; returns what to note now, if anything. `now`: in seconds."""
        before, self._seen = self._seen, seen
        if before is not None and before.member == seen.member and before.index < seen.index:
            self._sure = before
        if self._sure == self._noted or now < self._due:
            return None
        self._noted, self._due = self._sure, now + NOTE_S
        return self._noted


class StoredNote:
    """What is noted of a member, in a file beside its data."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, stored: Stored) -> None:
        """Note it. Raises: OSError."""
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps({"member": stored.member, "index": stored.index}))
        scratch.replace(self._path)

    def read(self) -> Stored | None:
        """What was noted last; None: nothing that can be read."""
        try:
            found = json.loads(self._path.read_text())
            return Stored(member=int(found["member"]), index=int(found["index"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged, so an older copy of the database would not be noticed: %s", self._path, error)
            return None

    def forget(self) -> None:
        """The data that it is about is removed."""
        self._path.unlink(missing_ok=True)


def is_older(found: Stored | None, noted: Stored | None) -> bool:
    """Whether what lies there is of the member that was noted, and lacks what that had stored."""
    return found is not None and noted is not None and found.member == noted.member and found.index < noted.index


def _newest_records(log_file: Path) -> dict[int, memoryview]:
    """What the last record of each kind in a file says."""
    if log_file.stat().st_size == 0:
        return {}
    with log_file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
        newest = {kind: bytes(record) for kind, record in _last_of_each_kind(memoryview(content)).items()}
    return {kind: data for kind, record in newest.items() if (data := _data(memoryview(record))) is not None}


def _last_of_each_kind(view: memoryview) -> dict[int, memoryview]:
    """The unused rest of a file is zeros; a record that was cut off ends it."""
    at, newest = 0, dict[int, memoryview]()
    while at + _FRAME <= len(view) and (frame := int.from_bytes(view[at : at + _FRAME], "little")):
        size, padding = frame & _SIZE, (frame >> 56) & 0x7 if frame >> 63 else 0
        record, at = view[at + _FRAME : at + _FRAME + size], at + _FRAME + size + padding
        if size < _SHORTEST or len(record) < size or record[0] != _KIND:
            break
        newest[record[1]] = record
    return newest


def _data(record: memoryview) -> memoryview | None:
    return next((value for field, value in _fields(record) if field == _DATA and isinstance(value, memoryview)), None)


def _numbers(message: memoryview | None) -> dict[int, int]:
    return {field: value for field, value in _fields(message or memoryview(b"")) if isinstance(value, int)}


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message that are numbers or bytes. Source: protobuf.dev, encoding."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, at = _varint(message, at)
        if key & 7 == _BYTES:
            yield key >> 3, message[at : at + number]
            at += number
        elif key & 7 == 0:
            yield key >> 3, number
        else:
            return


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
