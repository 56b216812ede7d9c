"""The node's certificate where libvirt and QEMU look for theirs: guests' memory travels between nodes encrypted.

Rule of the file: files of another certificate authority are never replaced; repeatable, and to be repeated when the
node's certificate was renewed or another one was revoked. Copies, because QEMU does not run as root and may not read
Holdfast's own directory.
Source: https://libvirt.org/kbase/tlscerts.html; QEMU, docs/system/tls.rst; qemu.conf (default_tls_x509_cert_dir).
"""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import Final

from cryptography.x509 import Certificate

from holdfast.hypervisor.copy_connections import LIBVIRT_PORT
from holdfast.membership.atomic_file import write_durably
from holdfast.membership.certificates import read_certificate
from holdfast.membership.errors import CertificateInvalid, FileNotWritten
from holdfast.membership.identity import NodeIdentity
from holdfast.membership.revocation import to_pem
from holdfast.model.errors import Conflict, NotFound
from holdfast.model.nodes import MemoryTarget

PKI: Final = Path("/etc/pki")
QEMU_GROUP: Final = "libvirt-qemu"
"""Debian's group of QEMU's processes."""
_AUTHORITIES: Final = ("CA/cacert.pem", "qemu/ca-cert.pem")
_REVOKED: Final = ("CA/cacrl.pem", "qemu/ca-crl.pem")
"""Each beside its authority's certificate. QEMU looks at it when it takes a guest in."""
_CERTIFICATES: Final = (
    "libvirt/servercert.pem", "libvirt/clientcert.pem", "qemu/server-cert.pem", "qemu/client-cert.pem",
)  # fmt: skip
_KEYS: Final = (
    "libvirt/private/serverkey.pem", "libvirt/private/clientkey.pem", "qemu/server-key.pem", "qemu/client-key.pem",
)  # fmt: skip

_PORT: Final = f":{LIBVIRT_PORT:04X}"
_LISTENS: Final = "0A"


def install(own: Path, target: Path = PKI) -> tuple[Path, ...]:
    """Put the node's certificates (`own`, such as /var/lib/holdfast/pki) in their places; returns what was written.

    Raises: NotFound (this machine is in no cluster), Conflict (libvirt or QEMU here trust another authority).
    """
    try:
        authority, certificate, key = ((own / name).read_bytes() for name in ("ca.crt", "node.crt", "node.key"))
    except FileNotFoundError as error:
        raise NotFound(
            f"this machine has no certificate of a cluster: there is no {error.filename}",
            hint="create a cluster or join one first: holdfast cluster create, holdfast node join",
        ) from error
    for name in _AUTHORITIES:
        path = target / name
        if path.exists() and path.read_bytes() != authority:
            raise Conflict(
                f"{path} is of another certificate authority than this cluster's",
                hint=f"libvirt is used with TLS for something else here; move {target} away if that is over",
            )
    contents = dict.fromkeys(_AUTHORITIES, authority) | dict.fromkeys(_CERTIFICATES, certificate)
    for name, content in contents.items():
        _write(target / name, content, 0o644)
    for name in _KEYS:
        _write(target / name, key, 0o640 if name.startswith("qemu/") else 0o600)
    return tuple(target / name for name in (*contents, *_KEYS))


def follow_renewal(own: Path, target: Path = PKI) -> tuple[Path, ...]:
    """Put the node's certificate where an older one for its key is; returns what was written.

    Each copy for itself: a daemon that was killed between two of them finds the others. The key never changes.

    Raises:
        CertificateInvalid: the node's own one is damaged.
        FileNotWritten: see `write_durably`.
        OSError: a file is there and cannot be read.
    """
    content = (own / "node.crt").read_bytes()
    present = read_certificate(content, str(own / "node.crt"))
    older = tuple(target / name for name in _CERTIFICATES if _is_older(target / name, content, present))
    for path in older:
        write_durably(path, content, mode=0o644)
    return older


def follow_revocations(own: Path, target: Path = PKI) -> tuple[Path, ...]:
    """Put the list of what is revoked beside the copies of the cluster's authority; returns what was written.

    Raises: CertificateInvalid (the node's own list is damaged), FileNotWritten, OSError.
    """
    authority, listed = _content(own / "ca.crt"), _content(own / "ca.crl")
    if authority is None or listed is None:
        return ()
    content = to_pem(listed)
    outdated = tuple(
        target / name
        for name, beside in zip(_REVOKED, _AUTHORITIES, strict=True)
        if _content(target / beside) == authority and _content(target / name) != content
    )
    for path in outdated:
        write_durably(path, content, mode=0o644)
    return outdated


def is_installed(own: Path, target: Path = PKI) -> bool:
    """Whether libvirt here shows the node's present certificate, or will when it has read it."""
    return all(_content(target / name) == _content(own / "node.crt") is not None for name in _CERTIFICATES)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_older(path: Path, content: bytes, present: Certificate) -> bool:
    """Whether this is another certificate of the same authority for the same key, and no later one."""
    try:
        found = path.read_bytes()
        copy = read_certificate(found, str(path))
    except (FileNotFoundError, CertificateInvalid):
        return False
    is_same = (copy.issuer, copy.public_key()) == (present.issuer, present.public_key())
    return is_same and found != content and copy.not_valid_before_utc <= present.not_valid_before_utc


def memory_target(own: Path, identity: NodeIdentity) -> MemoryTarget | None:
    """Where others send the memory of guests; None as long as libvirt here does not take it in as it should."""
    if not (is_installed(own) and _is_listening()):
        return None
    network, address = next(iter(identity.addresses.items()))
    host = f"[{address}]" if ":" in address else address
    return MemoryTarget(uri=f"qemu+tls://{host}/system", data_uri=f"tcp://{host}", network=network)


def _is_listening() -> bool:
    """Whether anything on this machine waits for connections to libvirt's port. Source: proc(5), /proc/net/tcp."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (Path("/proc/net") / table).read_text().splitlines()[1:]
        except OSError:
            continue
        if any((words := line.split())[1].endswith(_PORT) and words[3] == _LISTENS for line in lines):
            return True
    return False


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(path, content, mode=mode)
        if mode == 0o640:
            _give_to_qemu(path)
    except OSError as error:
        raise FileNotWritten(
            f"cannot write {path}: {error.strerror}", hint="run as root, on a file system that is mounted read-write"
        ) from error


def _give_to_qemu(path: Path) -> None:
    """Let QEMU read it; where there is no such group QEMU runs as root."""
    try:
        os.chown(path, 0, grp.getgrnam(QEMU_GROUP).gr_gid)
    except KeyError:
        return
