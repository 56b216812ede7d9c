"""The parts that breakages of moving memory put in place of sound ones.

Rule of the file: each is wrong in exactly the way that its first line says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from holdfast.decide.steps import Act, Step
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import MemoryKind, Phase


def restores_what_was_used(original: Any) -> Any:
    """A role whose guest ended comes from the memory again that it was restored from before."""
    used: dict[str, Any] = {}

    def next_step(ownership: Any, spec: Any, guest: Any, *given: Any, **named: Any) -> Any:
        memory = ownership.memory
        if memory is not None and memory.kind is MemoryKind.SAVED and memory.is_consumed:
            used[spec.uuid] = replace(memory, is_consumed=False)
        if ownership.phase is Phase.ONLINE and guest is GuestObservation.ABSENT and spec.uuid in used:
            again = replace(used[spec.uuid], disk_generation=ownership.disk_generation)
            return Step(record=replace(ownership, phase=Phase.STARTING, memory=again), act=Act.RESTORE)
        return original(ownership, spec, guest, *given, **named)

    return next_step


def resumes_unconsumed(original: Any) -> Any:
    """A process that was made from memory goes on before the record says that this memory is consumed."""

    def next_step(ownership: Any, spec: Any, guest: Any, *given: Any, **named: Any) -> Any:
        step = original(ownership, spec, guest, *given, **named)
        if step.act is not Act.RESUME or ownership.memory is None or ownership.memory.is_consumed:
            return step
        return Step(record=replace(step.record, memory=ownership.memory), act=Act.RESUME)

    return next_step


def ends_what_waits(original: Any) -> Any:
    """A guest that came with its memory and waits for its disks is ended at once, whoever wants it."""

    def next_step(*given: Any, **named: Any) -> Any:
        step = original(*given, **named)
        return Step(act=Act.DESTROY) if step.act is Act.WAIT else step

    return next_step


def shuts_down_instead(original: Any) -> Any:
    """A role that is to move with its memory is shut down where it is, and boots on its target."""

    def next_step(ownership: Any, *given: Any, **named: Any) -> Any:
        step = original(ownership, *given, **named)
        if ownership.phase is not Phase.ONLINE or step.act not in (Act.SAVE, Act.MIGRATE):
            return step
        return Step(record=replace(ownership, phase=Phase.STOPPING, making=None, receiving=None), act=Act.TAKE_OFFLINE)

    return next_step


def resumes_while_saving(original: Any) -> Any:
    """A guest whose memory could not be saved goes on at once, while its record still says that it is saved."""

    async def after_failed(self: Any, now: Any, detail: str) -> Any:
        await self._hypervisor.resume(now.spec.uuid)
        return await original(self, now, detail)

    return after_failed


def any_file_will_do(original: Any) -> Any:
    """The newest whole file of a guest counts as its memory, whichever attempt it is of."""

    async def settle_save(self: Any, now: Any) -> Any:
        files = self._hypervisor.moves.neighbourhood.files
        whole = [path for path, file in files.items() if file.uuid == now.spec.uuid and file.is_complete]
        making = now.ownership.making
        if making is None or not whole or making.path in whole:
            return await original(self, now)
        other = files[whole[-1]]
        taken = replace(making, path=whole[-1], id=other.memory_id)
        return await original(self, replace(now, ownership=replace(now.ownership, making=taken)))

    return settle_save


def blind_to_ids(original: Any) -> Any:
    """Any suspended process of a guest counts as the role's own, whatever memory it was made from."""

    def next_step(ownership: Any, spec: Any, guest: Any, *given: Any, memory_id: str = "", **named: Any) -> Any:
        memory = ownership.memory
        return original(ownership, spec, guest, *given, memory_id=memory.id if memory is not None else "", **named)

    return next_step


def spares_strays(original: Any) -> Any:
    """A guest that this node does not own is left where it is."""

    async def remove(_self: Any, _spec: Any, _observed: Any) -> bool:
        return False

    return remove


def discards_what_runs(original: Any) -> Any:
    """A person may discard memory that is not at rest, and what was saved is found again afterwards."""

    def discard_memory(snapshot: Any, role: Any, person: str) -> Any:
        after = original(snapshot, role, person)
        ownership = snapshot.ownerships[role].value
        if after is not None or ownership.memory is None:
            return after
        return replace(ownership, memory=None)

    return discard_memory


def nothing_is_named(original: Any) -> Any:
    """What the records name is not looked at."""

    def left_over(names: Any, cluster: Any, _ownerships: Any) -> Any:
        return original(names, cluster, ())

    return left_over


def hands_over_anyway(original: Any) -> Any:
    """A role whose copying failed is handed to its target all the same."""

    async def after_failed(self: Any, now: Any, detail: str) -> Any:
        if now.ownership.phase is Phase.MIGRATING:
            return self._handed_over(now)
        return await original(self, now, detail)

    return after_failed
