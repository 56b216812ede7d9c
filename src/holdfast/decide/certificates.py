"""Which certificates are to be replaced, and which a node leaves behind.

Rule of the file: the record of a node names its certificate in use last; times are wall-clock milliseconds, because
that is what certificates carry.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from holdfast.model.certificates import IssuedCertificate, NodeCertificates, RevokedCertificate
from holdfast.model.ids import NodeName
from holdfast.model.snapshot import Snapshot

DAY_MS: Final = 86_400_000
RENEWED_MS: Final = 120 * DAY_MS
"""A node renews its own so early by itself; one that ends soon could not be renewed."""


def is_due(record: NodeCertificates, own: IssuedCertificate, now_ms: int) -> bool:
    """Whether the certificate that a node uses is to be replaced: it ends soon, or a person wants that."""
    return own.until_ms - now_ms <= RENEWED_MS or record.replace == own.serial


def with_issued(record: NodeCertificates, own: IssuedCertificate, now_ms: int) -> NodeCertificates:
    """Return the record once its node uses this certificate."""
    before = (one for one in record.issued if one.until_ms > now_ms and one.serial != own.serial)
    return replace(record, issued=(*before, own), replace="" if record.replace != own.serial else record.replace)


def revoked_without(snapshot: Snapshot, node: NodeName, now_ms: int) -> tuple[RevokedCertificate, ...]:
    """Return all that is revoked once a node is gone: what was before and is still in date, and all of its own."""
    before = snapshot.revocations.value.revoked if snapshot.revocations is not None else ()
    record = snapshot.certificates.get(node)
    addresses = tuple(snapshot.nodes[node].value.addresses.values())
    own = (
        RevokedCertificate(node=node, serial=one.serial, until_ms=one.until_ms, at_ms=now_ms, addresses=addresses)
        for one in (record.value.issued if record is not None else ())
    )
    return tuple(one for one in (*before, *own) if one.until_ms > now_ms)
