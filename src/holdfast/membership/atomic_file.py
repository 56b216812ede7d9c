"""Files that are either the old ones or the new ones, whatever happens between.

Rule of the file: keys, certificates and identities are written by these functions only. Kill -9, a power cut or a full
disk at any instant leaves the complete previous content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from holdfast.membership.errors import DiskFull, FileNotWritten

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace the file by this content, on the disk before this returns. Makes missing folders (mode 0700).

    Raises:
        DiskFull: no room; the message names the path and what is free.
        FileNotWritten: any other reason; the message carries the system's words.

    Source: rename(2) is atomic; fsync(2) asks for an fsync of the directory to make the entry durable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(path, content, mode)
    except OSError as error:
        raise _explain(path, len(content), error) from error


def rename_durably(source: Path, target: Path) -> None:
    """Give a file or folder another name in the same file system, on the disk before this returns.

    Raises:
        FileNotWritten: the message carries the system's words.
    """
    try:
        source.rename(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise _explain(target, 0, error) from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, wanted_bytes: int, error: OSError) -> FileNotWritten:
    if error.errno in _NO_ROOM:
        return DiskFull(
            f"cannot write {path}: no room for {wanted_bytes} bytes, {_free_bytes(path.parent)} bytes are free there",
            hint="free some space on that file system (or raise the quota) and try again; the old file is untouched",
        )
    return FileNotWritten(
        f"cannot write {path}: {error.strerror}",
        hint="run as root, on a file system that is mounted read-write; the old file is untouched",
    )


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize
