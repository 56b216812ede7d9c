"""Typed records: which key holds which value type, and how it is written.

Rule of the file: the only place that knows the key space. Values are JSON, so that `etcdctl` shows them readably.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from holdfast.model.certificates import HeartbeatKeys, NodeCertificates, Revocations
from holdfast.model.disks import DiskSpec, Slot
from holdfast.model.errors import HoldfastError
from holdfast.model.events import Event
from holdfast.model.ids import DiskName, Incarnation, NodeName, RoleName
from holdfast.model.nodes import NodeReport, NodeSpec, Proof, Session, Verdict
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.model.snapshot import ClusterRecord, Coordinator

ROOT: Final = "holdfast/"
CLUSTER: Final = f"{ROOT}cluster"
COORDINATOR: Final = f"{ROOT}coordinator"
NODES: Final = f"{ROOT}nodes/"
SESSIONS: Final = f"{ROOT}sessions/"
VERDICTS: Final = f"{ROOT}verdicts/"
PROOFS: Final = f"{ROOT}proofs/"
REPORTS: Final = f"{ROOT}reports/"
SPECS: Final = f"{ROOT}specs/"
OWNERSHIPS: Final = f"{ROOT}ownerships/"
EVENTS: Final = f"{ROOT}events/"
TOKENS: Final = f"{ROOT}tokens/"
ORDERS: Final = f"{ROOT}orders/"
VOTE_ORDER: Final = f"{ROOT}vote-order"
MEMBER_RESTART: Final = f"{ROOT}member-restart"
DISKS: Final = f"{ROOT}disks/"
SLOTS: Final = f"{ROOT}slots/"
CERTIFICATES: Final = f"{ROOT}certificates/"
REVOCATIONS: Final = f"{ROOT}revocations"
HEARTBEAT_KEYS: Final = f"{ROOT}keys"

RECORD_TYPES: Final[dict[str, type[Any]]] = {
    CLUSTER: ClusterRecord,
    COORDINATOR: Coordinator,
    NODES: NodeSpec,
    SESSIONS: Session,
    VERDICTS: Verdict,
    PROOFS: Proof,
    REPORTS: NodeReport,
    SPECS: RoleSpec,
    OWNERSHIPS: Ownership,
    EVENTS: Event,
    DISKS: DiskSpec,
    SLOTS: Slot,
    CERTIFICATES: NodeCertificates,
    REVOCATIONS: Revocations,
    HEARTBEAT_KEYS: HeartbeatKeys,
}
"""Value type per key, or per prefix where the name ends in a slash."""

T = TypeVar("T")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


class RecordUnreadable(HoldfastError):
    """A key of the cluster database does not hold what this version of Holdfast writes there."""

    code = "record-unreadable"


def node_key(name: NodeName) -> str:
    """Key of a node's spec."""
    return NODES + name


def session_key(name: NodeName) -> str:
    """Key of a node's session."""
    return SESSIONS + name


def verdict_key(name: NodeName) -> str:
    """Key of the newest verdict on a node."""
    return VERDICTS + name


def proof_key(incarnation: Incarnation) -> str:
    """Key of the proof that an incarnation can do no harm."""
    return PROOFS + incarnation


def order_key(name: NodeName) -> str:
    """Key of the last order to switch a node off."""
    return ORDERS + name


def report_key(name: NodeName) -> str:
    """Key of what a node observes."""
    return REPORTS + name


def disk_key(name: DiskName) -> str:
    """Key of a shared disk."""
    return DISKS + name


def slot_key(number: int) -> str:
    """Key of a slot of the heartbeat disks."""
    return f"{SLOTS}{number}"


def certificates_key(name: NodeName) -> str:
    """Key of a node's certificates."""
    return CERTIFICATES + name


def spec_key(role: RoleName) -> str:
    """Key of a role's spec."""
    return SPECS + role


def ownership_key(role: RoleName) -> str:
    """Key of a role's ownership."""
    return OWNERSHIPS + role


def event_key(event: Event, count: int) -> str:
    """Key of an event: ordered by time; `count` tells events of one node and one millisecond apart."""
    return f"{EVENTS}{event.at_ms:015d}-{event.node}-{count:06d}"


def encode(record: object) -> bytes:
    """Return the record as JSON."""
    return _adapter(type(record)).dump_json(record)


def decode(kind: type[T], key: str, value: bytes) -> T:
    """Return the record that was written under `key`. Raises: RecordUnreadable."""
    try:
        record: T = _adapter(kind).validate_json(value)
    except ValidationError as error:
        raise RecordUnreadable(
            f"database key {key} holds no valid {kind.__name__}: {error.errors()[0]['msg']}",
            hint="a newer version of Holdfast may have written it: bring this node to the version of the others",
        ) from error
    return record


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Each record type's reader and writer, made once: making one costs more than using it a thousand times."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
