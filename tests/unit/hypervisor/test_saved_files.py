"""What counts as saved memory, byte by byte."""

import struct
from pathlib import Path

import pytest

from holdfast.hypervisor.memory import SavedKind
from holdfast.hypervisor.memory_mark import memory_id_in, memory_id_of, with_memory_id, without_memory_id
from holdfast.hypervisor.qemu_log import ended_by_migration
from holdfast.hypervisor.saved_files import discard, read_saved, write_through

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
XML = f"<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><memory>1024</memory></domain>"
COOKIE = b"<cookie/>\0"


def image(magic: bytes = b"LibvirtQemudSave") -> bytes:
    xml = with_memory_id(XML, "m1").encode() + b"\0"
    header = struct.pack("<16s5I", magic, 2, len(xml) + len(COOKIE), 1, 0, len(xml)) + bytes(56)
    return header + xml + COOKIE + b"memory" * 100


def test_a_whole_file_tells_whose_memory_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(image())
    write_through(path)
    saved = read_saved(path)
    assert (saved.kind, saved.uuid, saved.memory_id) == (SavedKind.COMPLETE, UUID, "m1")
    assert saved.bytes == len(image())
    discard(path)
    discard(path)
    assert read_saved(path).kind is SavedKind.ABSENT


@pytest.mark.parametrize(
    "content", [b"", image()[:50], image()[:200], image(b"LibvirtQemudPart"), b"something else" * 100]
)
def test_anything_less_is_worth_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    assert read_saved(path).kind is SavedKind.PARTIAL


def test_a_domain_carries_one_id_or_none() -> None:
    marked = with_memory_id(with_memory_id(XML, "m1"), "m2")
    assert memory_id_in(marked) == "m2"
    assert marked.count("m2") == 1
    assert "m1" not in marked
    assert memory_id_in(without_memory_id(marked)) == memory_id_in(XML) == memory_id_in("no xml") == ""
    assert memory_id_of("<memory id='m3'/>") == "m3"
    assert memory_id_of("<memory") == ""


BEGIN = "2026-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0\n/usr/bin/qemu -uuid "
MOVED = "2026-01-01 00:00:01.000+0000: shutting down, reason=migrated\n"


@pytest.mark.parametrize(
    ("log", "has_moved"),
    [
        (f"{BEGIN}{UUID}\n{MOVED}", True),
        (f"{BEGIN}{UUID}\nqemu: warning\n{MOVED}", True),
        (f"{BEGIN}{UUID}\n{MOVED}{BEGIN}{UUID}\n", False),
        (f"{BEGIN}another\n{MOVED}", False),
        (f"{BEGIN}{UUID}\n{MOVED.replace('migrated', 'crashed')}", False),
        (f"{BEGIN}{UUID}\n{MOVED}qemu: terminating on signal 15\n", True),
        (f"{BEGIN}{UUID}\n{MOVED}{MOVED.replace('migrated', 'crashed')}", False),
        (f"{BEGIN}{UUID}\nqemu: reason=migrated\n", False),
        (MOVED, False),
        ("", False),
    ],
)
def test_only_the_end_of_the_last_process_counts(tmp_path: Path, log: str, has_moved: bool) -> None:
    (tmp_path / "web.log").write_text(log)
    assert ended_by_migration(tmp_path, "web", UUID) is has_moved
    assert not ended_by_migration(tmp_path, "other", UUID)
