"""Files of saved memory, as libvirt writes them.

Rule of the file: everything here blocks, for as long as the storage likes: call it from a thread. A file counts only
when libvirt has marked its header as whole, which it does after the last byte of the memory.
Source: libvirt, src/qemu/qemu_saveimage.h (magic, header) and qemu_saveimage.c (order of writing).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from holdfast.hypervisor.memory import SavedKind, SavedState
from holdfast.hypervisor.memory_mark import memory_id_in
from holdfast.hypervisor.xml_source import parse_xml
from holdfast.model.errors import InvalidInput

_WHOLE = b"LibvirtQemudSave"
_HEADER = struct.Struct("<16s5I")
"""Magic, version, length of XML and cookie, was_running, format, offset of the cookie; then 56 unused bytes."""
_XML_AT = 92
_MAX_XML_BYTES = 4 * 2**20
_PROBE_BYTES = 4096


def read_saved(path: Path) -> SavedState:
    """Look at a file. Raises OSError when the storage does not let us, or its directory is not there.

    A file in a directory that is not mounted may be whole: absent is only what is missing where it would be.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_XML_AT)
            size = os.fstat(file.fileno()).st_size
            if len(header) < _XML_AT:
                return SavedState(kind=SavedKind.PARTIAL, bytes=size)
            magic, _version, length, _was_running, _format, cookie_at = _HEADER.unpack_from(header)
            xml_length = cookie_at or length
            xml = file.read(xml_length) if xml_length <= _MAX_XML_BYTES else b""
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        return SavedState(kind=SavedKind.ABSENT)
    if magic != _WHOLE or not xml or len(xml) < xml_length:
        return SavedState(kind=SavedKind.PARTIAL, bytes=size)
    text = xml.rstrip(b"\0").decode(errors="replace")
    return SavedState(kind=SavedKind.COMPLETE, bytes=size, uuid=_uuid(text), memory_id=memory_id_in(text))


def write_through(path: Path) -> None:
    """Return when the file and its name are on the storage, so that no power cut of this node can take them back.

    Raises OSError.
    """
    for place, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        descriptor = os.open(place, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file; absent is fine. Raises OSError."""
    path.unlink(missing_ok=True)


def names_in(directory: Path) -> tuple[str, ...]:
    """The names of the regular files in a directory, in order. Raises OSError."""
    with os.scandir(directory) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False)))


def write_probe(directory: Path, name: str) -> int:
    """Write a small file through to the storage, remove it, and return how many bytes are free. Raises OSError."""
    probe = directory / name
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


def _uuid(domain_xml: str) -> str:
    try:
        return (parse_xml(domain_xml).findtext("uuid") or "").strip().lower()
    except InvalidInput:
        return ""
