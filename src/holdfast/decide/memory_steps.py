"""The steps of a role whose memory is kept: saved, copied, restored and resumed.

Rule of the file: memory is used once. A process is made from it, then the record says that it is consumed, then it
executes; whatever else has this memory never executes any more. While memory is made, no step lets the guest execute
before the record has given that up. Source: SAFE-7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.decide.saved_memory import path_of
from holdfast.decide.steps import Act, Attempt, Situation, Step, moved
from holdfast.model.ids import Epoch, Incarnation, NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Memory, MemoryKind, MoveMethod, Ownership, Phase, Receiver, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What is there of a guest after an act: its process, executing or not, and what that was made from."""

    executes: bool
    memory_id: str = ""


def start_from(now: Situation, memory: Memory) -> Step:
    """Nothing of the role is here: make its process from its memory, or say that the memory is gone."""
    if memory.is_consumed or memory.kind is MemoryKind.COPIED:
        return now.ended(lost(now, "the process that had it ended"))
    if now.is_over:
        return Step(record=now.released(*now.ownership.reasons))
    if memory.disk_generation != now.ownership.disk_generation:
        return Step(record=replace(now.becomes(Phase.STARTING, lost(now, "its disks are newer")), memory=None))
    return Step(record=now.becomes(Phase.STARTING), act=Act.RESTORE)


def go_on_from(now: Situation, memory: Memory) -> Step:
    """A process is here that does not execute: consume its memory before it does, or remove what is something else.

    It goes on even if the role is to leave: to give it up now would lose the memory, unless that is in a file still.
    """
    if now.memory_id != memory.id:
        return Step(act=Act.DESTROY)
    if not memory.is_consumed and memory.disk_generation != now.ownership.disk_generation:
        return Step(act=Act.DESTROY)
    is_in_file = memory.kind is MemoryKind.SAVED and not memory.is_consumed
    if is_in_file and now.is_over:
        return Step(act=Act.DESTROY)
    if not now.can_write:
        return _wait_for_disks(now, is_in_file=is_in_file)
    return Step(record=now.executes(replace(memory, is_consumed=True)), act=Act.RESUME)


def _wait_for_disks(now: Situation, *, is_in_file: bool) -> Step:
    """Let its disks get ready for as long as a shutdown may take, and longer only if to end it would lose the memory.

    A disk that nobody protects does not get ready while a process uses it: who stops the role need not wait for that.
    """
    has_waited = now.now_ms - now.ownership.since_ms >= now.spec.shutdown_timeout_ms
    may_end = is_in_file or now.spec.wanted is Wanted.OFFLINE
    return Step(act=Act.DESTROY if has_waited and may_end else Act.WAIT)


def save(now: Situation) -> Step:
    """Begin to save the memory of a guest, under a name that no earlier attempt had."""
    if not now.attempt.directory:
        return Step(record=otherwise(now.ownership, now, because(ReasonCode.NOWHERE_TO_SAVE, now.spec.name)))
    generation, path = now.ownership.disk_generation, path_of(now.spec.name, now.attempt)
    making = Memory(kind=MemoryKind.SAVED, id=now.attempt.id, path=path, disk_generation=generation)
    return Step(record=replace(now.becomes(Phase.SAVING), making=making, receiving=None), act=Act.SAVE)


def save_again(_: Situation) -> Step:
    """It is suspended: go on with the attempt."""
    return Step(act=Act.SAVE)


def save_anew(now: Situation) -> Step:
    """It executes, so what may have been saved of it is old: this attempt is void."""
    return Step(record=replace(now.becomes(Phase.ONLINE), making=None))


def settle_save(_: Situation) -> Step:
    """Its process is gone: whether its memory was saved, the file tells."""
    return Step(act=Act.SETTLE_SAVE)


def copy(now: Situation) -> Step:
    """Have a guest copied as soon as its target is ready to take it in."""
    if now.ownership.receiving is None or now.ownership.making is None:
        return Step()
    making = replace(now.ownership.making, disk_generation=now.ownership.disk_generation)
    return Step(record=replace(now.becomes(Phase.MIGRATING), making=making), act=Act.MIGRATE)


def settle_copy(_: Situation) -> Step:
    """Its copying may have ended or not, here as well as there."""
    return Step(act=Act.SETTLE_MIGRATION)


def after_save(now: Situation, saved_bytes: int | None) -> Ownership:
    """Return the record of a role whose process is certainly gone. `saved_bytes` None: its file is not complete."""
    making = now.ownership.making
    if making is None or saved_bytes is None:
        record = now.ended(lost(now, "its process ended before its memory was saved")).record
        assert record is not None, "what ended is given up or started again"
        return record
    memory = replace(making, bytes=saved_bytes)
    return replace(now.released(*now.ownership.reasons), memory=memory)


def after_failed_move(now: Situation, present: Present, detail: str) -> Ownership:
    """Return the record of a role whose memory could not be saved or copied and whose process is here, as it was.

    A suspended one goes on only under this record, which has given the attempt up.
    """
    target = now.ownership.target
    after = now.becomes(Phase.ONLINE)
    if target is None or target == now.ownership.owner:
        after = moved(after)
    else:
        method = str(now.ownership.method)
        after = otherwise(after, now, because(ReasonCode.MOVE_FAILED, target, method=method, detail=detail))
    if present.executes:
        return after
    generation = now.ownership.disk_generation
    memory = Memory(kind=MemoryKind.COPIED, id=present.memory_id, disk_generation=generation, is_consumed=True)
    return replace(after, phase=Phase.STARTING, memory=memory)


def handed_over(now: Situation, memory: Memory, receiver: Receiver) -> Ownership:
    """Return the record by which the owner gives the role to the node that has its copy.

    It stands as begun there at once: whoever else got it would have to start it anew.
    """
    before = now.ownership
    return replace(
        before,
        phase=Phase.STARTING,
        owner=receiver.node,
        incarnation=receiver.incarnation,
        epoch=Epoch(before.epoch + 1),
        last_owner=before.owner,
        since_ms=now.now_ms,
        restarts=(),
        target=None if before.target is None else receiver.node,
        drained_from=before.drained_from if before.drained_from != receiver.node else None,
        making=None,
        receiving=None,
        memory=memory,
    )


def after_lost_copy(now: Situation, detail: str) -> Ownership:
    """Return the record of a role whose process is certainly gone, and no whole copy of it is with its target."""
    record = now.ended(lost(now, detail)).record
    assert record is not None, "what ended is given up or started again"
    return record


def after_failed_restore(now: Situation, detail: str) -> Ownership:
    """Return the record of a role that could not be restored here: it keeps its memory, and another node tries."""
    reason = because(ReasonCode.GUEST_START_FAILED, now.spec.name, detail=detail)
    return replace(now.released(reason), failed_on=now.failed_here())


def is_to_receive(ownership: Ownership, node: NodeName, incarnation: Incarnation) -> bool:
    """Whether this node is to say that it takes in the copy of a guest."""
    waits = ownership.phase is Phase.ONLINE and ownership.method is MoveMethod.LIVE and ownership.is_leaving
    return waits and ownership.target == node and not receives(ownership, incarnation)


def receives(ownership: Ownership, incarnation: Incarnation) -> bool:
    """Whether a copy that is here may be that of the role: it is spared, and does not execute."""
    return ownership.receiving is not None and ownership.receiving.incarnation == incarnation


def received(ownership: Ownership, receiver: Receiver, attempt: Attempt) -> Ownership:
    """The record by which a node says that it takes in the copy."""
    making = Memory(kind=MemoryKind.COPIED, id=attempt.id, disk_generation=ownership.disk_generation)
    return replace(ownership, making=making, receiving=receiver)


def not_received(now: Situation, detail: str) -> Ownership:
    """The record of a move whose target does not take the copy in; its owner, epoch and phase stay."""
    reason = because(ReasonCode.RECEIVE_REFUSED, str(now.ownership.target), detail=detail)
    return otherwise(now.ownership, now, reason)


def otherwise(after: Ownership, now: Situation, reason: Reason) -> Ownership:
    """The record of a move that failed: over, or a live one that nobody insists on tried as a quick one."""
    is_live = now.ownership.method is MoveMethod.LIVE
    if is_live and now.ownership.is_auto and now.attempt.directory:
        return replace(after, method=MoveMethod.QUICK, making=None, receiving=None, reasons=(reason,))
    return replace(moved(after), failed_ms=now.now_ms, reasons=(reason,))


def lost(now: Situation, detail: str) -> Reason:
    """Why a role starts anew although its memory was to be kept."""
    return because(ReasonCode.MEMORY_LOST, now.spec.name, detail=detail)
