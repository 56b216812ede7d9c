"""SAFE-7, judged by what executed: memory is used once, is never older than its disks, and is not lost without cause.

Rule of the file: nothing here asks the code under test; a guest's disks are as new as the last memory that executed, so
whatever executes next is either that memory, aged by one, or a fresh start that the world explains. The records are
read to see that memory was consumed before it executed, and which guests were to keep it. Source: DESIGN section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.model.nodes import Proof, ProofKind, Verdict
from holdfast.model.roles import Ownership, Phase
from holdfast.sim.history import Commit, Records
from holdfast.sim.kept_on_moves import Span, arrivals, kept_on_moves, stopped_on_arrival
from holdfast.sim.memories import HolderEnd, Memories, Stretch
from holdfast.sim.truth import Truth
from holdfast.store.port import KeyValue
from holdfast.store.records import OWNERSHIPS, PROOFS, VERDICTS, decode

BY_ITSELF: Final = ("crashed", "killed by the guard", "power lost")
"""How a process ends that nobody of the cluster asked to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Causes:
    """What may explain the end of a role's memory.

    lost            when each incarnation was.
    kept, stopped   when its process was to keep it, and when a person had stopped one that had not gone on.
    came            where it came, suspended, and the revision that said so.
    """

    lost: Mapping[str, float]
    kept: Sequence[Span]
    stopped: Sequence[Span]
    came: Mapping[str, int]

    def explain(self, end: HolderEnd) -> bool:
        """Whether this end is reason enough: no suspended process is ended, nor one that is to keep its memory."""
        if end.by in BY_ITSELF or end.incarnation in self.lost:
            return True
        spans = self.kept if end.was_executing else self.stopped
        return any(span.has(end) for span in spans) is not end.was_executing


def memory_is_used_once(truth: Truth) -> Iterator[str]:
    """Nothing executes from memory that has executed before, or that is older than the disks."""
    newest: dict[str, Stretch] = {}
    boots: dict[str, set[int]] = {}
    for stretch in truth.memories.stretches:
        if not stretch.is_whole:
            where = f"{truth.name_of(stretch.uuid)} went on at {stretch.at:.3f} s on {stretch.node}"
            yield f"SAFE-7: {where} from memory that was still on its way"
        before, known = newest.get(stretch.uuid), boots.setdefault(stretch.uuid, set())
        goes_on = before is not None and before.memory.boot == stretch.memory.boot
        is_next = goes_on and before is not None and stretch.memory.age == before.memory.age + 1
        if before is not None and not is_next and (stretch.memory.boot in known or stretch.memory.age != 1):
            where = f"{truth.name_of(stretch.uuid)} went on at {stretch.at:.3f} s on {stretch.node}"
            yield (
                f"SAFE-7: {where} from memory {stretch.memory.boot}/{stretch.memory.age - 1}, "
                f"although {before.memory.boot}/{before.memory.age} had "
                f"executed on {before.node} since {before.at:.3f} s"
            )
        known.add(stretch.memory.boot)
        newest[stretch.uuid] = stretch


def memory_is_not_lost(truth: Truth, history: Sequence[Commit]) -> Iterator[str]:
    """A guest starts afresh only when its memory went with its node or process, or somebody gave it up."""
    lost, discarded = _lost(history), _discarded(truth, history)
    kept, stopped, came = kept_on_moves(history), stopped_on_arrival(history), arrivals(history)
    newest: dict[str, Stretch] = {}
    for stretch in truth.memories.stretches:
        before = newest.get(stretch.uuid)
        newest[stretch.uuid] = stretch
        if before is None or before.memory.boot == stretch.memory.boot:
            continue
        name = truth.name_of(stretch.uuid)
        if any(before.at <= at <= stretch.at for at in discarded.get(name, ())):
            continue
        causes = _Causes(lost=lost, kept=kept.get(name, ()), stopped=stopped.get(name, ()), came=came.get(name, {}))
        if not _is_left_behind(before, stretch, truth, lost) and not _is_explained(
            before, stretch, truth.memories, causes
        ):
            where = f"{name} started afresh on {stretch.node} at {stretch.at:.3f} s"
            yield (
                f"SAFE-7: {where}, although "
                f"nothing took the memory that it had on {before.node} since {before.at:.3f} s"
            )


def _is_left_behind(before: Stretch, fresh: Stretch, truth: Truth, lost: dict[str, float]) -> bool:
    """Whether the memory was on a node that was declared lost; its process may exist still, kept off its disks."""
    was_on = (run for run in truth.runs if run.uuid == before.uuid and run.node == before.node)
    return any(lost.get(run.incarnation, fresh.at + 1.0) <= fresh.at for run in was_on if run.began <= before.at)


def _is_explained(before: Stretch, fresh: Stretch, memories: Memories, causes: _Causes) -> bool:
    if causes.lost.get(before.incarnation, fresh.at) < fresh.at:
        return True
    came_since = (where for where, revision in causes.came.items() if revision >= before.revision)
    if any(causes.lost.get(where, fresh.at + 1.0) <= fresh.at for where in came_since):
        return True
    holders = [end for end in memories.ends if end.uuid == fresh.uuid and end.memory == before.memory]
    return any(causes.explain(end) for end in holders if end.at <= fresh.at)


def _lost(history: Sequence[Commit]) -> dict[str, float]:
    """When each incarnation was declared lost, or its node came back as another one before that."""
    found: dict[str, float] = {}
    for commit in history:
        for change in commit.changes:
            if isinstance(change, KeyValue) and change.key.startswith(VERDICTS):
                found.setdefault(decode(Verdict, change.key, change.value).incarnation, commit.at)
            elif isinstance(change, KeyValue) and change.key.startswith(PROOFS):
                proof = decode(Proof, change.key, change.value)
                if proof.kind is ProofKind.RESTARTED:
                    found.setdefault(proof.incarnation, commit.at)
    return found


def _discarded(truth: Truth, history: Sequence[Commit]) -> dict[str, list[float]]:
    """When memory at rest left the record of each role whose memory a person had asked to discard by then."""
    asked = {truth.name_of(uuid): at for uuid, at in truth.memories.given_up.items()}
    resting: set[str] = set()
    found: dict[str, list[float]] = {}
    for commit in history:
        for change in commit.changes:
            if not isinstance(change, KeyValue) or not change.key.startswith(OWNERSHIPS):
                continue
            after = decode(Ownership, change.key, change.value)
            is_given_up = after.role in resting and after.phase is Phase.VACANT and after.memory is None
            if is_given_up and asked.get(after.role, commit.at + 1.0) <= commit.at:
                found.setdefault(after.role, []).append(commit.at)
            resting.discard(after.role)
            if after.phase is Phase.VACANT and after.memory is not None:
                resting.add(after.role)
    return found


def memory_is_consumed_first(truth: Truth, history: Sequence[Commit]) -> Iterator[str]:
    """What was made from memory executes under a record that says so; what was suspended, after its attempt ended."""
    records = Records()
    stretches = sorted(truth.memories.stretches, key=lambda one: one.revision)
    for number, commit in enumerate(history):
        records.apply(commit)
        until = history[number + 1].revision if number + 1 < len(history) else float("inf")
        while stretches and stretches[0].revision < until:
            stretch = stretches.pop(0)
            owned = next(
                (o.value for role, o in records.ownerships.items() if role == truth.name_of(stretch.uuid)), None
            )
            if (why := _not_allowed(stretch, owned)) is not None:
                name = truth.name_of(stretch.uuid)
                yield f"SAFE-7: {name} went on at {stretch.at:.3f} s on {stretch.node} {why}"


def saved_memory_is_kept(truth: Truth, history: Sequence[Commit]) -> Iterator[str]:
    """No file is removed while a record names it whose memory may still be used."""
    records = Records()
    removals = list(truth.memories.removals)
    for number, commit in enumerate(history):
        records.apply(commit)
        until = history[number + 1].revision if number + 1 < len(history) else float("inf")
        while removals and removals[0].revision < until:
            removal = removals.pop(0)
            for role, record in records.ownerships.items():
                kept = (memory for memory in (record.value.memory, record.value.making) if memory is not None)
                if any(memory.path == removal.path and not memory.is_consumed for memory in kept):
                    yield f"SAFE-7: {removal.path} was removed at {removal.at:.3f} s, although {role} had it as memory"


def _not_allowed(stretch: Stretch, owned: Ownership | None) -> str | None:
    if owned is None or owned.owner != stretch.node:
        return None  # who may execute at all is judged elsewhere
    if not stretch.is_first:
        return "while it was being saved" if owned.phase is Phase.SAVING else None
    memory = owned.memory
    if not stretch.memory_id:
        return None if memory is None else f"afresh, although its memory {memory.id} was kept"
    if memory is None or memory.id != stretch.memory_id or not memory.is_consumed:
        return f"from memory {stretch.memory_id}, which its record did not say was consumed"
    return None
