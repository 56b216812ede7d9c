"""The node's view of the file system, made by its init before anything else runs.

Rule of the file: disk-like folders are bound from the node's own folder and outlive a power cut; RAM-like ones are
fresh tmpfs and do not. Standard library only. Source: mount(2).
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import TypedDict

_MS_NOSUID, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x1000, 0x4000, 0x40000
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_libc = ctypes.CDLL(None, use_errno=True)


class BootPlan(TypedDict):
    """What the datacenter tells a node's init; the file ``boot.json``."""

    hostname: str
    boot_id: str
    path: str
    binds: dict[str, str]
    has_kvm: bool
    services: list[dict[str, object]]


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode() or None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def _mount_dev(has_kvm: bool) -> None:
    names = (*_DEVICES, "kvm") if has_kvm else _DEVICES
    known = {name: Path("/dev", name).stat() for name in names if Path("/dev", name).exists()}
    _mount("tmpfs", "/dev", "tmpfs", _MS_NOSUID, "mode=755")
    for name, seen in known.items():
        path = Path("/dev", name)
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, seen.st_rdev)
        path.chmod(0o666)
    for name, target in _LINKS.items():
        Path("/dev", name).symlink_to(target)
    for name, kind, options in (("pts", "devpts", "newinstance,ptmxmode=0666,mode=620"), ("shm", "tmpfs", "")):
        Path("/dev", name).mkdir()
        _mount(kind, f"/dev/{name}", kind, _MS_NOSUID, options)


def _bind(source: str, target: str) -> None:
    place = Path(target)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            place.mkdir()
        else:
            place.touch()
    _mount(source, target, flags=_MS_BIND)


def set_up(plan: BootPlan) -> None:
    """Turn the fresh namespaces of this process into a machine of its own.

    The kernel's boot id is replaced too, because it is one for all nodes and does not change when a node's plug is
    pulled, as it would on a real machine. Raises: OSError.
    """
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _libc.sethostname(plan["hostname"].encode(), len(plan["hostname"]))
    _mount_dev(plan["has_kvm"])
    _mount("sysfs", "/sys", "sysfs")
    _mount("tmpfs", "/run", "tmpfs", _MS_NOSUID, "mode=755")
    Path("/run/lock").mkdir()
    Path("/run/boot_id").write_text(plan["boot_id"] + "\n")
    for target, source in plan["binds"].items():
        _bind(source, target)
    _mount("/run/boot_id", "/proc/sys/kernel/random/boot_id", flags=_MS_BIND)
