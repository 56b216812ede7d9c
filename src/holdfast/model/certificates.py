"""What the database says of certificates and keys: which are issued, which are worth nothing any more.

Rule of the file: nothing in a record of certificates is secret. The keys of heartbeats are, as much as `cluster.key`;
whoever reads the database has that file too. Source: docs/security.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.model.ids import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate of a node: its serial number (hexadecimal), and until when it is good (wall-clock ms)."""

    serial: str
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCertificates:
    """The certificates of a node that are still good, the one in use last.

    replace       the serial number of the one that a person wants replaced; empty: none.
    request_pem   of a witness, which cannot sign for itself: what it wants signed.
    granted_pem   what was signed for it last.
    """

    node: NodeName
    issued: tuple[IssuedCertificate, ...] = ()
    replace: str = ""
    request_pem: str = ""
    granted_pem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedCertificate:
    """A certificate of a node that is gone, and where that node was. Forgotten when it is out of date anyway."""

    node: NodeName
    serial: str
    until_ms: int
    at_ms: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """All that is revoked, and the list of it that the cluster's authority has signed (PEM)."""

    revoked: tuple[RevokedCertificate, ...]
    list_pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatKey:
    """A secret from which keys of heartbeats are derived. `id` may be shown, the secret (hexadecimal) never."""

    id: str
    secret_hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatKeys:
    """The secrets that are accepted, the newest last, and the id of the one that is used. More than one: a change."""

    accepted: tuple[HeartbeatKey, ...]
    used: str
