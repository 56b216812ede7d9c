"""This node's copy of the cluster database, kept current by one watch.

Rule of the file: the copy informs decisions and never proves anything; what is decided on it is checked again by the
transaction that commits it. Source: SAFE-4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from holdfast.model.events import Event
from holdfast.model.ids import Revision, RoleName
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.role_index import RoleIndex
from holdfast.store.follow import follow
from holdfast.store.port import Change, Deleted, KeyValue, Listing, Store
from holdfast.store.records import (
    CERTIFICATES,
    CLUSTER,
    COORDINATOR,
    DISKS,
    EVENTS,
    HEARTBEAT_KEYS,
    NODES,
    OWNERSHIPS,
    PROOFS,
    RECORD_TYPES,
    REPORTS,
    REVOCATIONS,
    ROOT,
    SESSIONS,
    SLOTS,
    SPECS,
    VERDICTS,
    RecordUnreadable,
    decode,
)

log = logging.getLogger(__name__)

WAIT_S: Final = 3.0

FIELDS = {
    NODES: "nodes",
    SESSIONS: "sessions",
    VERDICTS: "verdicts",
    PROOFS: "proofs",
    REPORTS: "reports",
    SPECS: "specs",
    OWNERSHIPS: "ownerships",
    DISKS: "disks",
    SLOTS: "slots",
    CERTIFICATES: "certificates",
}
SINGLE_FIELDS = {
    CLUSTER: "cluster",
    COORDINATOR: "coordinator",
    REVOCATIONS: "revocations",
    HEARTBEAT_KEYS: "heartbeat_keys",
}


class Mirror:
    """Follows the database and tells others when it changed.

    `snapshot` is None until the first listing arrived.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.roles = RoleIndex()
        self._signals: WeakKeyDictionary[asyncio.Event, None] = WeakKeyDictionary()
        """A dictionary for its order: subscribers are woken in the order in which they came."""
        self._event_sinks: list[Callable[[str, Event], None]] = []

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set at every change; the subscriber clears it."""
        signal = asyncio.Event()
        self._signals[signal] = None
        if self.snapshot is not None:
            signal.set()
        return signal

    async def wait_revision(self, revision: int) -> None:
        """Wait until the copy is as new as a commit, or for a moment."""
        changed = self.subscribe()
        try:
            async with asyncio.timeout(WAIT_S):
                while self.snapshot is None or self.snapshot.revision < revision:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return

    def on_event(self, sink: Callable[[str, Event], None]) -> Callable[[], None]:
        """Pass every new cluster event with its key to `sink`; the result ends that."""
        self._event_sinks.append(sink)
        return lambda: self._event_sinks.remove(sink)

    async def run(self, store: Store) -> None:
        """Follow `store` until cancelled."""
        async for item in follow(store, ROOT):
            if self.snapshot is not None and item.revision < self.snapshot.revision:
                continue  # older than what is known: the member that answers lags behind
            if isinstance(item, Listing):
                snapshot = apply(Snapshot(), item.items, item.revision)
                self.roles.rebuild(snapshot)
                self._publish(snapshot)
                continue
            if not item.changes:
                continue
            self._tell(item.changes)
            before = self.snapshot or Snapshot()
            snapshot = apply(before, item.changes, item.revision)
            self.roles.update(before, snapshot, roles_of(item.changes))
            self._publish(snapshot)

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        for signal in tuple(self._signals):
            signal.set()

    def _tell(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if not isinstance(change, KeyValue) or not change.key.startswith(EVENTS):
                continue
            try:
                event = decode(Event, change.key, change.value)
            except RecordUnreadable as error:
                log.error("%s", error)
                continue
            for sink in tuple(self._event_sinks):
                sink(change.key, event)


def apply(snapshot: Snapshot, changes: tuple[Change, ...], revision: int) -> Snapshot:
    """Return the snapshot with the changes of one revision. A record that cannot be read is left out and logged."""
    copies: dict[str, Any] = {"revision": Revision(revision)}
    for change in changes:
        if change.key in SINGLE_FIELDS:
            copies[SINGLE_FIELDS[change.key]] = _versioned(change.key, change)
            continue
        prefix, slash, name = change.key.removeprefix(ROOT).partition("/")
        field = FIELDS.get(f"{ROOT}{prefix}{slash}")
        if field is None:
            continue
        if field not in copies:
            copies[field] = dict(getattr(snapshot, field))
        record = _versioned(f"{ROOT}{prefix}/", change)
        if record is None:
            copies[field].pop(name, None)
        else:
            copies[field][name] = record
    return replace(snapshot, **copies)


def roles_of(changes: tuple[Change, ...]) -> tuple[RoleName, ...]:
    """The roles whose spec or ownership changed."""
    kinds = (SPECS, OWNERSHIPS)
    return tuple(RoleName(c.key.removeprefix(kind)) for c in changes for kind in kinds if c.key.startswith(kind))


def _versioned(kind: str, change: Change) -> Versioned[Any] | None:
    if isinstance(change, Deleted):
        return None
    try:
        value = decode(RECORD_TYPES[kind], change.key, change.value)
    except RecordUnreadable as error:
        log.error("%s", error)
        return None
    return Versioned(value=value, revision=Revision(change.mod_revision), created=Revision(change.create_revision))
