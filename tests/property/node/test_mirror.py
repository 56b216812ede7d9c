"""The mirror's copy against a plain replay of the same history."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.decide.made_up import incarnation, node_spec, owned, proof, role_spec, session, verdict

from holdfast.model.ids import NodeName, RoleName
from holdfast.model.snapshot import Coordinator, Snapshot
from holdfast.node.mirror import FIELDS, SINGLE_FIELDS, apply, roles_of
from holdfast.node.role_index import RoleIndex
from holdfast.store.port import Change, Deleted, KeyValue
from holdfast.store.records import (
    COORDINATOR,
    RECORD_TYPES,
    decode,
    encode,
    node_key,
    ownership_key,
    proof_key,
    session_key,
    spec_key,
    verdict_key,
)

NAMES = ("a", "b")
UUIDS = ("web-1", "web-2", "x/y-1", "x/y-2")
RECORDS: dict[str, list[bytes]] = {
    **{node_key(NodeName(n)): [encode(node_spec(n)), encode(node_spec(n, is_paused=True))] for n in NAMES},
    **{session_key(NodeName(n)): [encode(session(n, i)) for i in (1, 2)] for n in NAMES},
    **{verdict_key(NodeName(n)): [encode(verdict(n, i)) for i in (1, 2)] for n in NAMES},
    **{proof_key(incarnation(n)): [encode(proof(n))] for n in NAMES},
    **{spec_key(RoleName(n)): [encode(role_spec(n, uuid=f"{n}-{i}")) for i in (1, 1, 2)] for n in ("web", "x/y")},
    **{ownership_key(RoleName(n)): [encode(owned(n, o)) for o in (None, "a", "b")] for n in ("web", "x/y")},
    COORDINATOR: [encode(Coordinator(node=NodeName(n), incarnation=incarnation(n))) for n in NAMES],
    "holdfast/tokens/t": [b"{}"],
    "holdfast/unheard-of": [b"?"],
}
UNREADABLE = b'{"from": "a newer version"}'
WRITES = st.lists(
    st.lists(st.tuples(st.sampled_from(sorted(RECORDS)), st.integers(0, 4)), max_size=3, unique_by=lambda w: w[0]),
    max_size=12,
)


def history(writes: list[list[tuple[str, int]]]) -> list[tuple[Change, ...]]:
    """One batch of changes per revision: writes, deletions, and records that cannot be read."""
    created: dict[str, int] = {}
    batches = []
    for revision, batch in enumerate(writes, start=1):
        changes: list[Change] = []
        for key, choice in batch:
            if choice == 0:
                created.pop(key, None)
                changes.append(Deleted(key=key, mod_revision=revision))
                continue
            values = [*RECORDS[key], UNREADABLE]
            since = created.setdefault(key, revision)
            value = values[choice % len(values)]
            changes.append(KeyValue(key=key, value=value, create_revision=since, mod_revision=revision, version=1))
        batches.append(tuple(changes))
    return batches


def replay(batches: list[tuple[Change, ...]]) -> dict[str, KeyValue]:
    """Every key as it stands in the end."""
    live: dict[str, KeyValue] = {}
    for change in (change for batch in batches for change in batch):
        if isinstance(change, Deleted):
            live.pop(change.key, None)
        else:
            live[change.key] = change
    return live


def shown(snapshot: Snapshot) -> dict[str, tuple[Any, int, int]]:
    """Every record of a snapshot by its key."""
    fields = {prefix + name: v for prefix, field in FIELDS.items() for name, v in getattr(snapshot, field).items()}
    singles = {key: getattr(snapshot, field) for key, field in SINGLE_FIELDS.items()}
    found = {**fields, **{key: v for key, v in singles.items() if v is not None}}
    return {key: (v.value, v.revision, v.created) for key, v in found.items()}


def kind(key: str) -> type[Any] | None:
    """What a key holds, if it is one that a snapshot shows."""
    prefix = "/".join(key.split("/")[:2]) + "/"
    return RECORD_TYPES.get(key) or (RECORD_TYPES[prefix] if prefix in FIELDS else None)


@given(WRITES)
def test_following_every_change_ends_where_the_history_ends(writes: list[list[tuple[str, int]]]) -> None:
    batches = history(writes)
    snapshot = Snapshot()
    for revision, batch in enumerate(batches, start=1):
        snapshot = apply(snapshot, batch, revision)
    expected = {}
    for key, item in replay(batches).items():
        found = kind(key)
        if found is not None and item.value != UNREADABLE:
            expected[key] = (decode(found, key, item.value), item.mod_revision, item.create_revision)
    assert shown(snapshot) == expected
    assert snapshot.revision == len(batches)


@given(WRITES)
def test_listing_everything_anew_shows_the_same_as_following(writes: list[list[tuple[str, int]]]) -> None:
    batches = history(writes)
    followed = Snapshot()
    for revision, batch in enumerate(batches, start=1):
        followed = apply(followed, batch, revision)
    listed = apply(Snapshot(), tuple(replay(batches).values()), len(batches))
    assert shown(listed) == shown(followed)


@given(WRITES)
def test_a_snapshot_that_was_handed_out_never_changes(writes: list[list[tuple[str, int]]]) -> None:
    snapshot = Snapshot()
    kept: list[tuple[Snapshot, dict[str, Any]]] = []
    for revision, batch in enumerate(history(writes), start=1):
        snapshot = apply(snapshot, batch, revision)
        kept.append((snapshot, shown(snapshot)))
    assert all(shown(old) == before for old, before in kept)


def records_of(snapshot: Snapshot, node: str) -> list[Any]:
    """The records of the roles that a node owns."""
    owned_there = [role for role, record in sorted(snapshot.ownerships.items()) if record.value.owner == node]
    return [(role, snapshot.ownerships[role], snapshot.specs.get(role)) for role in owned_there]


@given(WRITES)
def test_the_index_of_roles_says_what_a_look_at_all_of_them_says(writes: list[list[tuple[str, int]]]) -> None:
    snapshot, index = Snapshot(), RoleIndex()
    for revision, batch in enumerate(history(writes), start=1):
        before, snapshot = snapshot, apply(snapshot, batch, revision)
        told = {node: index.news_for(NodeName(node)) for node in NAMES}
        index.update(before, snapshot, roles_of(batch))
        for node in NAMES:
            if records_of(before, node) != records_of(snapshot, node):
                assert index.news_for(NodeName(node)) != told[node]
            owned_there = {role for role, record in snapshot.ownerships.items() if record.value.owner == node}
            assert set(index.owned_by(NodeName(node))) == owned_there
        guests = {record.value.uuid: role for role, record in snapshot.specs.items()}
        assert {uuid: index.of_guest(uuid) for uuid in UUIDS} == {uuid: guests.get(uuid) for uuid in UUIDS}
