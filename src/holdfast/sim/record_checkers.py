"""What must hold of everything that was ever committed, judged by the database's history and the truth of the machines.

Rule of the file: nothing here asks the code under test what it thinks; a record is compared with the records before
it, and with which guest's process existed when it was committed. Source: DESIGN section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Final

from holdfast.model.ids import Incarnation, NodeName
from holdfast.model.nodes import FenceOrder, Proof, ProofKind, Session, Verdict
from holdfast.model.roles import Ownership, Phase
from holdfast.sim.history import Commit, Owned, Records, kind_and_name
from holdfast.sim.truth import GuestRun, Truth
from holdfast.sim.twins import EPOCH_MS
from holdfast.store.port import KeyValue
from holdfast.store.records import ORDERS, OWNERSHIPS, PROOFS, SESSIONS, VERDICTS, decode

HEARD_WITHIN_S: Final = 1.0
HEARD_SINCE_S: Final = 3.0
"""Who took in a node's heartbeats without a gap for so long, the last one so shortly ago, cannot hold it for silent."""
CLOCKS_DIFFER_S: Final = 3.0
VANISHED_WITHIN_MS: Final = 60_000
WISHES: Final = frozenset(
    {
        "target",
        "source",
        "drained_from",
        "reasons",
        "method",
        "is_auto",
        "ordered_ms",
        "failed_ms",
        "making",
        "receiving",
    }
)
"""Of a role's record: where it is to run and how it gets there."""


def commits_keep_the_rules(history: Sequence[Commit], truth: Truth) -> Iterator[str]:
    """SAFE-2, 3, 4, 8, quarantine: judge each commit by the records before it, each start of a guest by those then."""
    records = Records()
    runs = sorted(truth.runs, key=lambda run: run.began_revision)
    claims: set[tuple[str, int]] = set()
    names = {name: uuid for uuid, name in truth.names.items()}
    for number, commit in enumerate(history):
        yield from _committed_by_majority(commit)
        for change in commit.changes:
            if isinstance(change, KeyValue):
                yield from _judge(change, commit, records, truth, names)
        records.apply(commit)
        until = history[number + 1].revision if number + 1 < len(history) else float("inf")
        while runs and runs[0].began_revision < until:
            yield from _started_under_claim(runs.pop(0), records, truth, claims)


def nobody_is_lost(history: Sequence[Commit]) -> Iterator[str]:
    """SAFE-6: where every host is heard by a majority all the time, no verdict is passed on any."""
    records = Records()
    for commit in history:
        records.apply(commit)
        for change in commit.changes:
            if change.key.startswith(VERDICTS) and isinstance(change, KeyValue):
                lost = decode(Verdict, VERDICTS, change.value)
                if lost.node not in records.witnesses():
                    yield f"SAFE-6: {lost.node} was declared lost at {commit.at:.3f} s by {commit.author.name}"


def _committed_by_majority(commit: Commit) -> Iterator[str]:
    if not commit.was_led:
        by = commit.author.name or "nobody in particular"
        yield f"SAFE-4: revision {commit.revision} was committed at {commit.at:.3f} s by {by} without a majority"


def _judge(change: KeyValue, commit: Commit, records: Records, truth: Truth, names: Mapping[str, str]) -> Iterator[str]:
    kind, name = kind_and_name(change.key)
    match kind:
        case "sessions/":
            yield from _session(decode(Session, SESSIONS, change.value), commit, records)
        case "verdicts/":
            yield from _verdict(decode(Verdict, VERDICTS, change.value), commit, records)
        case "proofs/":
            yield from _proof(decode(Proof, PROOFS, change.value), commit, records, truth)
        case "orders/":
            order = decode(FenceOrder, ORDERS, change.value)
            yield from _order(NodeName(name), order, commit, records)
        case "ownerships/":
            after = decode(Ownership, OWNERSHIPS, change.value)
            yield from _ownership(after, commit, records)
            is_given = after.memory is not None and after.last_owner == commit.author.name != after.owner
            if after.owner is None or is_given:
                yield from _released(after, commit, records, truth, names)


def _session(session: Session, commit: Commit, records: Records) -> Iterator[str]:
    if session.incarnation in records.lost:
        yield f"SAFE-4: a verdict is final, yet {session.node} has its session again at {commit.at:.3f} s"


def _verdict(verdict: Verdict, commit: Commit, records: Records) -> Iterator[str]:
    """A verdict is final; by silence alone it needs a majority of voters that are silent about the node."""
    before = records.lost.get(verdict.incarnation)
    if before is not None and before != verdict:
        yield f"SAFE-4: the verdict on {verdict.node} was changed at {commit.at:.3f} s"
    if any(change.key.endswith(f"/{verdict.incarnation}") for change in commit.changes):
        return  # proven off at once: `_proof` judges that
    voters = records.voters()
    hearing = sorted(voter for voter in voters if _hears(voter, verdict.incarnation, commit))
    silent = voters - {verdict.node, *hearing}
    if hearing and len(silent) * 2 <= len(voters):
        yield (
            f"SAFE-4: {verdict.node} was declared lost at {commit.at:.3f} s by {commit.author.name}, "
            f"although no majority of the voters was without it; it was heard by {', '.join(hearing)}"
        )


def _hears(voter: NodeName, incarnation: Incarnation, commit: Commit) -> bool:
    asked_at = commit.author.asked_at
    since, last = commit.author.hearings.get((voter, incarnation), (asked_at, float("-inf")))
    return asked_at - last <= HEARD_WITHIN_S and asked_at - since >= HEARD_SINCE_S


def _proof(proof: Proof, commit: Commit, records: Records, truth: Truth) -> Iterator[str]:
    """SAFE-2: nothing of a proven incarnation runs any more, and nothing of it ever begins."""
    if (
        proof.kind is not ProofKind.RESTARTED
        and proof.incarnation not in records.lost
        and not _has_verdict(proof, commit)
    ):
        yield f"SAFE-2: {proof.node} was proven down at {commit.at:.3f} s without a verdict"
    for run in truth.runs:
        if run.incarnation != proof.incarnation or proof.kind is ProofKind.STORAGE_RESERVATION:
            continue  # what a reservation is worth is judged by what reaches the disks
        if run.existed_at(commit.revision) or run.began_revision >= commit.revision:
            yield (
                f"SAFE-2: {proof.kind} proof of {proof.node} at {commit.at:.3f} s, although {_life(run, truth)} there"
            )


def _has_verdict(proof: Proof, commit: Commit) -> bool:
    return any(
        change.key == f"{VERDICTS}{proof.node}"
        and isinstance(change, KeyValue)
        and decode(Verdict, VERDICTS, change.value).incarnation == proof.incarnation
        for change in commit.changes
    )


def _order(node: NodeName, order: FenceOrder, commit: Commit, records: Records) -> Iterator[str]:
    """SAFE-4: only the coordinator orders off. SAFE-8: and not when more than half vanished at once, unproven."""
    if records.coordinator is None or records.coordinator.node != commit.author.name:
        yield f"SAFE-4: {commit.author.name} ordered {node} off at {commit.at:.3f} s and is not the coordinator"
    if node in records.witnesses():
        yield f"WITNESS: {node} was ordered off at {commit.at:.3f} s, and nothing runs there"
    at_ms = next((verdict.at_ms for verdict in records.verdicts.values() if verdict.node == node), order.at_ms)
    vanished = [
        verdict
        for name, verdict in records.verdicts.items()
        if name not in records.sessions and abs(verdict.at_ms - at_ms) <= VANISHED_WITHIN_MS
    ]
    unproven = [verdict.node for verdict in vanished if verdict.incarnation not in records.proofs]
    alive_before = len(records.sessions) + len(vanished)
    if len(unproven) * 2 > alive_before:
        gone = ", ".join(sorted(unproven))
        yield f"SAFE-8: {node} was ordered off at {commit.at:.3f} s while {gone} of {alive_before} had vanished"


def _ownership(after: Ownership, commit: Commit, records: Records) -> Iterator[str]:
    """A record changes only in the ways that a role may change hands."""
    owned = records.ownerships.get(after.role)
    before = Ownership(role=after.role) if owned is None else owned.value
    where = f"{after.role} at {commit.at:.3f} s by {commit.author.name}"
    if after.epoch < before.epoch:
        yield f"SAFE-3: the epoch of {where} went from {before.epoch} to {after.epoch}"
    same = (after.owner, after.incarnation, after.epoch) == (before.owner, before.incarnation, before.epoch)
    if same and before.owner is not None:
        yield from _step_of_owner(before, after, commit, records, where)
    elif before.phase not in (Phase.VACANT, Phase.ASSIGNED):
        yield from _left_its_owner(before, after, commit, records, where)
    if after.owner is not None and not same:
        yield from _assigned(before, after, commit, records, where)


def _step_of_owner(before: Ownership, after: Ownership, commit: Commit, records: Records, where: str) -> Iterator[str]:
    """SAFE-3: only the owner itself goes on, with its session, and in the same epoch."""
    if _only_wanted_elsewhere(before, after):
        return
    session = records.sessions.get(after.owner) if after.owner is not None else None
    if session is None or session.incarnation != after.incarnation or after.incarnation in records.lost:
        yield f"SAFE-3: {after.phase} of {where}, whose owner's incarnation is not up any more"
    if commit.author.name not in ("", after.owner):
        yield f"SAFE-3: {after.phase} of {where}, which does not own it"


def _only_wanted_elsewhere(before: Ownership, after: Ownership) -> bool:
    """Whether only the wish changed where it is to run, which anybody may express with a majority of voters."""
    kept = (item.name for item in fields(Ownership) if item.name not in WISHES)
    return all(getattr(before, name) == getattr(after, name) for name in kept)


def _left_its_owner(before: Ownership, after: Ownership, commit: Commit, records: Records, where: str) -> Iterator[str]:
    """SAFE-2: a role that may have begun leaves its owner by its release, or with a proof committed before."""
    assert before.incarnation is not None
    if before.incarnation in records.proofs:
        return
    session = records.sessions.get(before.owner) if before.owner is not None else None
    is_release = (
        after.phase is Phase.VACANT
        and commit.author.name == before.owner
        and session is not None
        and session.incarnation == before.incarnation
    )
    if not is_release and not _is_handed_over(before, after, commit, session):
        yield f"SAFE-2: {where} left {before.owner} ({before.phase}) without release or proof"


def _is_handed_over(before: Ownership, after: Ownership, commit: Commit, session: Session | None) -> bool:
    """Whether the owner gave it to the very node that said that it takes in its copy, and with this copy."""
    receiver, memory = before.receiving, after.memory
    return (
        before.phase is Phase.MIGRATING
        and receiver is not None
        and memory is not None
        and before.making is not None
        and memory.id == before.making.id
        and (after.owner, after.incarnation) == (receiver.node, receiver.incarnation)
        and commit.author.name == before.owner
        and session is not None
        and session.incarnation == before.incarnation
    )


def _assigned(before: Ownership, after: Ownership, commit: Commit, records: Records, where: str) -> Iterator[str]:
    """SAFE-4: the coordinator assigns, to a node that is up, in a new epoch."""
    if after.epoch <= before.epoch:
        yield f"SAFE-3: {where} has a new owner {after.owner} in the same epoch {after.epoch}"
    session_before = records.sessions.get(before.owner) if before.owner is not None else None
    is_handed_over = _is_handed_over(before, after, commit, session_before)
    if (
        commit.author.name
        and not is_handed_over
        and (records.coordinator is None or records.coordinator.node != commit.author.name)
    ):
        yield f"SAFE-4: an owner of {where} was assigned, and it is not the coordinator"
    yield from _quarantine(after, commit, records, where)
    if after.owner in records.witnesses():
        yield f"WITNESS: {where} was assigned to {after.owner}, which runs no guests"
    session = records.sessions.get(after.owner) if after.owner is not None else None
    if session is None or session.incarnation != after.incarnation:
        yield f"SAFE-3: {where} was assigned to {after.owner}, which has no session as {after.incarnation}"


def _quarantine(after: Ownership, commit: Commit, records: Records, where: str) -> Iterator[str]:
    """A node that was lost too often gets no role for a while. Source: DESIGN section 5."""
    losses = [verdict.at_ms for verdict in records.lost.values() if verdict.node == after.owner]
    settings = records.settings
    if len(losses) < settings.quarantine_losses:
        return
    ends_s = (max(losses) - EPOCH_MS) / 1000 + settings.quarantine_s
    if commit.at < ends_s - CLOCKS_DIFFER_S:
        yield f"QUARANTINE: {where} was assigned to {after.owner}, lost {len(losses)} times, before {ends_s:.0f} s"


def _released(
    after: Ownership, commit: Commit, records: Records, truth: Truth, names: Mapping[str, str]
) -> Iterator[str]:
    """SAFE-2: whoever releases a role runs nothing of it any more. What a proof frees is judged with the proof."""
    uuid = names.get(after.role)
    for run in truth.runs:
        is_its_own = run.uuid == uuid and run.node == after.last_owner == commit.author.name
        if is_its_own and run.existed_at(commit.revision):
            yield f"SAFE-2: {after.role} was released at {commit.at:.3f} s, although {_life(run, truth)} there"


def _started_under_claim(run: GuestRun, records: Records, truth: Truth, claims: set[tuple[str, int]]) -> Iterator[str]:
    """SAFE-3: a guest starts under a record that says so at that very moment, and once per claim."""
    name = truth.name_of(run.uuid)
    owned = next((owned for role, owned in records.ownerships.items() if role == name), None)
    where = f"{name} began on {run.node} at {run.began:.3f} s"
    if owned is None or not _allows(owned, run):
        said = f"{owned.value.phase} on {owned.value.owner}, epoch {owned.value.epoch}" if owned else "nothing"
        yield f"SAFE-3: {where} while the record said {said}"
    elif (run.uuid, owned.revision) in claims:
        yield f"SAFE-3: {where} for the second time under one claim"
    else:
        claims.add((run.uuid, owned.revision))


def _allows(owned: Owned, run: GuestRun) -> bool:
    value = owned.value
    return value.phase is Phase.STARTING and (value.owner, value.incarnation) == (run.node, run.incarnation)


def _life(run: GuestRun, truth: Truth) -> str:
    until = "runs" if run.ended is None else f"ran until {run.ended:.3f} s"
    return f"{truth.name_of(run.uuid)} {until} (since {run.began:.3f} s)"
