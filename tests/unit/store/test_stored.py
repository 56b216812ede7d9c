"""How far the database is stored here: read from etcd's log, noted when it is sure, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.store.errors import DataUnwritable
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.preconditions import refuse_older
from holdfast.store.etcd.stored import (
    ENTRY,
    METADATA,
    NOTE_S,
    SNAPSHOT,
    Stored,
    StoredNote,
    SurelyStored,
    is_older,
    read_log,
)
from holdfast.store.etcd.tls import TlsFiles

M = 0x2E1278CA0E4A8E00


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def message(**fields: int | bytes) -> bytes:
    """A protobuf message whose fields are named f1, f2 and so on."""
    parts = []
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def record(kind: int, data: bytes) -> bytes:
    """A record with its frame: its length, and how many bytes fill it up to a multiple of eight."""
    content = message(f1=kind, f2=12345, f3=data)
    padding = -len(content) % 8
    frame = len(content) | ((0x80 | padding) << 56 if padding else 0)
    return frame.to_bytes(8, "little") + content + bytes(padding)


def entry(index: int, size: int = 3) -> bytes:
    return record(ENTRY, message(f1=0, f2=2, f3=index, f4=b"x" * size))


HEAD = record(METADATA, message(f1=M, f2=77))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "db" / "member" / "wal").mkdir(parents=True)
    return tmp_path / "db"


def keep(folder: Path, *files: bytes) -> None:
    for number, content in enumerate(files):
        (folder / "member" / "wal" / f"{number:016x}-{number:016x}.wal").write_bytes(content)


@pytest.mark.parametrize(
    ("files", "index"),
    [
        ((HEAD + entry(1) + entry(2, size=500) + bytes(4096),), 2),
        ((HEAD + entry(1) + entry(2) + entry(3), HEAD + entry(4) + bytes(64)), 4),
        ((HEAD + entry(1) + entry(2), HEAD + bytes(64)), 2),
        ((HEAD + entry(1) + entry(9) + entry(5),), 5),
        ((HEAD + record(SNAPSHOT, message(f1=700, f2=3)) + entry(701),), 701),
        ((HEAD + entry(3) + record(SNAPSHOT, message(f1=700, f2=3)),), 700),
        ((HEAD + entry(1) + entry(2, size=40)[:-20],), 1),
        ((HEAD + entry(7) + (1 << 63).to_bytes(8, "little") + entry(8),), 7),
        ((HEAD + bytes(64),), 0),
    ],
    ids=[
        "one",
        "two-files",
        "a-new-file",
        "overtaken",
        "after-a-snapshot",
        "a-snapshot",
        "cut-off",
        "damaged",
        "nothing",
    ],
)
def test_the_log_tells_how_far_it_goes(folder: Path, files: tuple[bytes, ...], index: int) -> None:
    keep(folder, *files)
    assert read_log(folder) == Stored(member=M, index=index)


@pytest.mark.parametrize("files", [(), (b"",), (b"what is this, then?" * 9,)])
def test_what_is_no_log_tells_nothing(folder: Path, files: tuple[bytes, ...]) -> None:
    keep(folder, *files)
    assert read_log(folder) is None
    assert not is_older(read_log(folder), Stored(member=M, index=5))


def test_safe_4_a_copy_is_older_when_it_lacks_what_the_same_member_had_stored(folder: Path) -> None:
    keep(folder, HEAD + entry(1) + entry(2))
    found = read_log(folder)
    assert is_older(found, Stored(member=M, index=3))
    assert not is_older(found, Stored(member=M, index=2))
    assert not is_older(found, Stored(member=M + 1, index=3)), "another member's, of a restored cluster"
    assert not is_older(found, None)


def test_safe_4_only_what_is_sure_is_noted_and_not_too_often() -> None:
    surely = SurelyStored()
    assert surely.saw(Stored(member=M, index=4), 1.0) is None
    assert surely.saw(Stored(member=M, index=4), 2.0) is None, "it may still be storing that"
    assert surely.saw(Stored(member=M, index=9), 3.0) == Stored(member=M, index=4)
    assert surely.saw(Stored(member=M, index=9), 9.0) is None, "that is noted"
    assert surely.saw(Stored(member=M, index=11), 9.0) == Stored(member=M, index=9)
    assert surely.saw(Stored(member=M, index=15), 9.0 + NOTE_S / 2) is None, "too soon"
    assert surely.saw(Stored(member=M, index=15), 9.0 + NOTE_S) == Stored(member=M, index=11)
    assert surely.saw(Stored(member=M + 1, index=22), 99.0) is None, "of another member nothing is known"


def test_a_note_lasts_until_it_is_forgotten(tmp_path: Path) -> None:
    note = StoredNote(tmp_path / "db.stored")
    assert note.read() is None
    note.write(Stored(member=M, index=4))
    assert StoredNote(tmp_path / "db.stored").read() == Stored(member=M, index=4)
    note.forget()
    assert note.read() is None


def test_a_damaged_note_is_no_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "db.stored").write_text("{")
    assert StoredNote(tmp_path / "db.stored").read() is None
    assert "is damaged" in caplog.text


def test_safe_4_a_log_that_cannot_be_read_keeps_the_member_from_starting(folder: Path) -> None:
    config = member_config(folder)
    StoredNote(config.stored_file).write(Stored(member=M, index=3))
    (folder / "member" / "wal" / "0.wal").mkdir()
    with pytest.raises(DataUnwritable, match="cannot be read"):
        refuse_older(config)


def member_config(data_dir: Path) -> MemberConfig:
    """A member that stores there."""
    return MemberConfig(
        name="node1",
        data_dir=data_dir,
        log_file=data_dir / "log",
        process_file=data_dir / "process",
        client_addresses=("127.0.0.1:1",),
        peer_addresses=("127.0.0.1:2",),
        initial_cluster=(),
        initial_state=InitialState.EXISTING,
        cluster_token="token",
        tls=TlsFiles(authority=data_dir, certificate=data_dir, key=data_dir),
    )
