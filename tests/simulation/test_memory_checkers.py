"""The checker of lost memory, on a history written by hand: what explains a fresh start, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.test_checkers import UUID, A, B, C, Hand
from tests.unit.decide.made_up import incarnation, owned, proof, role_spec, verdict

from holdfast.hypervisor.simulated_guest import SimulatedMemory
from holdfast.model.nodes import ProofKind
from holdfast.model.roles import Memory, MemoryKind, Phase, Wanted
from holdfast.sim.memory_checkers import memory_is_not_lost
from holdfast.store.port import Put
from holdfast.store.records import encode, ownership_key, proof_key, spec_key, verdict_key

COPY = Memory(kind=MemoryKind.COPIED, id="m1", disk_generation=0)
FILE = Memory(kind=MemoryKind.SAVED, id="m1", path="/saved/m1", disk_generation=0)


class Story(Hand):
    """web executed on `b`; then it is ended there, and starts afresh."""

    def __init__(self) -> None:
        super().__init__()
        self.want(Wanted.ONLINE)
        self.truth.guest_executes(B, UUID, SimulatedMemory(boot=1, age=1), "", is_whole=True)

    def want(self, wanted: Wanted) -> None:
        spec = role_spec("web", wanted=wanted)
        self.commit("", Put(spec_key(spec.name), encode(spec)))

    def has(self, memory: Memory | None, phase: Phase = Phase.STARTING, **changes: Any) -> None:
        after = replace(owned("web", B, phase, memory=memory), **changes)
        self.commit(B, Put(ownership_key(after.role), encode(after)))

    def ends(self) -> None:
        self.at += 1.0
        self.truth.memory_ended(B, UUID, SimulatedMemory(boot=1, age=1), "stopped", was_executing=False)

    def starts_afresh(self) -> list[str]:
        self.has(None)
        self.truth.guest_executes(B, UUID, SimulatedMemory(boot=2, age=1), "", is_whole=True)
        return list(memory_is_not_lost(self.truth, self.database.history))


@pytest.mark.parametrize("memory", [COPY, replace(COPY, is_consumed=True), replace(FILE, is_consumed=True)])
def test_a_person_who_stops_a_role_explains_the_end_of_a_process_that_has_not_gone_on(memory: Memory) -> None:
    story = Story()
    story.has(memory)
    story.want(Wanted.OFFLINE)
    story.ends()
    story.want(Wanted.ONLINE)
    assert story.starts_afresh() == []


@pytest.mark.parametrize(
    ("memory", "phase", "wanted"),
    [
        (COPY, Phase.STARTING, Wanted.ONLINE),
        (FILE, Phase.STARTING, Wanted.OFFLINE),
        (None, Phase.STARTING, Wanted.OFFLINE),
        (COPY, Phase.SAVING, Wanted.OFFLINE),
    ],
)
def test_safe_7_nothing_else_explains_the_end_of_a_suspended_process(
    memory: Memory | None, phase: Phase, wanted: Wanted
) -> None:
    story = Story()
    story.has(memory, phase)
    story.want(wanted)
    story.ends()
    assert [line.partition(":")[0] for line in story.starts_afresh()] == ["SAFE-7"]


def test_memory_goes_with_a_node_that_came_back_before_it_was_declared_lost() -> None:
    for kind, told in ((ProofKind.RESTARTED, []), (ProofKind.STORAGE_RESERVATION, ["SAFE-7"])):
        story = Story()
        story.has(None, Phase.SAVING, making=FILE)
        story.ends()
        story.commit(B, Put(proof_key(incarnation(B)), encode(proof(B, kind=kind))))
        assert [line.partition(":")[0] for line in story.starts_afresh()] == told


def test_memory_goes_with_a_node_that_it_came_to_and_that_is_lost() -> None:
    for memory, told in ((COPY, []), (FILE, ["SAFE-7"])):
        story = Story()
        story.ends()
        story.has(memory, owner=C, incarnation=incarnation(C))
        story.commit(A, Put(verdict_key(C), encode(verdict(C))))
        assert [line.partition(":")[0] for line in story.starts_afresh()] == told


def test_safe_7_memory_that_came_to_a_node_before_it_executed_elsewhere_is_not_lost_with_that_node() -> None:
    story = Story()
    story.has(COPY, owner=C, incarnation=incarnation(C))
    story.has(None)
    story.truth.guest_executes(B, UUID, SimulatedMemory(boot=1, age=2), "", is_whole=True)
    story.commit(A, Put(verdict_key(C), encode(verdict(C))))
    assert len(story.starts_afresh()) == 1


def test_safe_7_a_stop_explains_no_end_before_it_or_after_the_guest_went_on() -> None:
    for is_late in (False, True):
        story = Story()
        story.has(COPY)
        if is_late:
            story.want(Wanted.OFFLINE)
            story.has(None, Phase.ONLINE)
        story.ends()
        story.want(Wanted.OFFLINE)
        assert len(story.starts_afresh()) == 1
