"""The promises of the cluster database, whoever keeps them.

Rule of the file: only values and protocols. Every decision of the cluster is one ``Txn`` that writes; reads and watches
inform, they never prove (a thawed node can be served old answers for seconds). Source: SAFE-4, DESIGN section 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import KW_ONLY, dataclass
from typing import NewType, Protocol

from holdfast.model.errors import InvalidInput

LeaseId = NewType("LeaseId", int)
MemberId = NewType("MemberId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """One key as it stands at some revision.

    ``version`` counts the writes since the key was created (1 = just created); ``lease`` is 0 when none holds the key.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class ModRevision:
    """Holds when the key was last written at exactly this revision; ``equals=0`` holds when there is no such key."""

    key: str
    _: KW_ONLY
    equals: int


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Holds when the key has existed without a gap since exactly this revision; ``equals=0``: there is no such key."""

    key: str
    _: KW_ONLY
    equals: int


@dataclass(frozen=True, slots=True)
class Value:
    """Holds when the key exists and has exactly this value."""

    key: str
    _: KW_ONLY
    equals: bytes


@dataclass(frozen=True, slots=True)
class NoneNewer:
    """Holds when no key that starts with ``prefix`` was written after this revision; one that was removed is fine."""

    prefix: str
    _: KW_ONLY
    than: int


Compare = ModRevision | CreateRevision | Value | NoneNewer


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key. ``lease=None`` makes it permanent, also when a lease held it before."""

    key: str
    value: bytes
    _: KW_ONLY
    lease: LeaseId | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; a key that is not there is fine."""

    key: str


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Remove every key that starts with ``prefix``, which may not be empty."""

    prefix: str

    def __post_init__(self) -> None:
        if not self.prefix:
            raise InvalidInput("a transaction cannot delete the empty prefix, which is every key")


Operation = Put | Delete | DeletePrefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Txn:
    """If all ``compares`` hold, do all of ``then`` at one revision; if not, do nothing and read ``otherwise_read``.

    Raises: InvalidInput when ``then`` touches a key twice, because a revision of a key is one change.
    """

    compares: tuple[Compare, ...] = ()
    then: tuple[Operation, ...] = ()
    otherwise_read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [operation.key for operation in self.then if not isinstance(operation, DeletePrefix)]
        prefixes = [operation.prefix for operation in self.then if isinstance(operation, DeletePrefix)]
        for key, count in Counter(keys).items():
            if count + sum(key.startswith(prefix) for prefix in prefixes) > 1:
                raise InvalidInput(f"a transaction touches the key {key!r} twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class TxnResult:
    """What a transaction did.

    ``revision`` is that of the database after it; when it succeeded and changed something, the written keys have it as
    their ``mod_revision``. ``read`` holds those of ``otherwise_read`` that exist, and is empty after a success.
    """

    succeeded: bool
    revision: int
    read: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every key below a prefix at one revision, ordered by key. Watch from ``revision + 1`` to miss nothing."""

    revision: int
    items: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The key was removed, by a transaction or because its lease ended, at ``mod_revision``."""

    key: str
    mod_revision: int


Change = KeyValue | Deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBatch:
    """All changes of one revision below the watched prefix.

    Without changes it is a progress notice: everything up to and including ``revision`` has been seen.
    """

    revision: int
    changes: tuple[Change, ...] = ()


class Store(Protocol):
    """A linearizable key-value store with transactions, watches and leases.

    Reads and writes raise ``StoreUnavailable`` when nothing was done; writes raise ``StoreOutcomeUnknown`` when nobody
    can tell. ``timeout_s`` bounds one call altogether, all attempts included; None takes the store's default.
    """

    async def get(self, key: str, *, timeout_s: float | None = None) -> KeyValue | None:
        """Return the key, or None when it does not exist."""
        ...

    async def list(self, prefix: str, *, timeout_s: float | None = None) -> Listing:
        """Return every key that starts with ``prefix``; the empty prefix means all."""
        ...

    async def txn(self, txn: Txn, *, timeout_s: float | None = None) -> TxnResult:
        """Decide and write at one revision.

        Raises: StoreUnavailable, StoreOutcomeUnknown, StoreFull; LeaseNotFound when a put names an ended lease.
        """
        ...

    def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """Yield the changes of ``from_revision`` and later, in order; none is skipped, none comes twice.

        It reconnects by itself and for ever; while no member answers it just yields nothing. Close it with ``aclose``
        (or ``contextlib.aclosing``). Raises: Compacted.
        """
        ...

    async def grant(self, ttl_s: int, *, timeout_s: float | None = None) -> LeaseId:
        """Create a lease of ``ttl_s`` seconds. After an error a lease may exist that nobody knows; it runs out."""
        ...

    async def keep_alive(self, lease: LeaseId, *, timeout_s: float | None = None) -> float:
        """Start the lease's time again and return it in seconds. Raises: LeaseNotFound, StoreUnavailable."""
        ...

    async def revoke(self, lease: LeaseId, *, timeout_s: float | None = None) -> None:
        """End the lease and remove its keys; a lease that has ended already is fine."""
        ...

    async def close(self) -> None:
        """Give up all connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the database cluster. ``name`` is empty until it has started for the first time."""

    id: MemberId
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStatus:
    """What one member says of itself. ``leader_id`` is None while it knows no leader."""

    member_id: MemberId
    leader_id: MemberId | None
    raft_term: int
    raft_index: int
    database_bytes: int
    version: str
    is_learner: bool


class StoreAdmin(Protocol):
    """Who votes in the database, and how each member is. One change at a time; learner first."""

    async def members(self, *, timeout_s: float | None = None) -> tuple[Member, ...]:
        """Return the members as of now; from etcd 3.4, which does not ask the others, as one of them last knew."""
        ...

    async def add_learner(self, peer_urls: tuple[str, ...], *, timeout_s: float | None = None) -> Member:
        """Add a member without a vote. Raises: Conflict when the address is a member's, MemberChangeRefused."""
        ...

    async def promote(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """Give a learner its vote. Raises: MemberNotFound, MemberChangeRefused while it has not caught up."""
        ...

    async def remove(self, member: MemberId, *, timeout_s: float | None = None) -> None:
        """Remove a member for good. Raises: MemberNotFound, MemberChangeRefused."""
        ...

    async def move_leader(self, to: MemberId, *, timeout_s: float | None = None) -> None:
        """Have another voter lead, without an election's pause. Raises: StoreUnavailable."""
        ...

    async def answering(self, *, timeout_s: float) -> frozenset[MemberId]:
        """Ask every member that this node knows of, at once; return who says that it has a leader."""
        ...

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> MemberStatus:
        """Ask one member (``host:port``), or the preferred one that answers, how it is."""
        ...
