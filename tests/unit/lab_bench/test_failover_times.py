"""What was seen of one failover: when it is complete, and its times."""

import pytest

from holdfast.lab.bench.trials import measure_of
from holdfast.lab.failover import Failover, Milestone, Stage

OF_THE_NODE = (Stage.SUSPECT, Stage.VERDICT, Stage.PROOF)
OF_A_ROLE = (Stage.OWNER, Stage.QEMU, Stage.GUEST)


def seen_of(*milestones: Milestone) -> Failover:
    return Failover(victim="node2", roles=("one", "two"), milestones=list(milestones))


@pytest.mark.parametrize("stage", OF_THE_NODE)
def test_a_stage_of_the_node_is_reached_once(stage: Stage) -> None:
    assert not seen_of().is_complete([stage])
    assert seen_of(Milestone(stage=stage, at=0.8)).is_complete([stage])


@pytest.mark.parametrize("stage", OF_A_ROLE)
def test_a_stage_of_roles_is_reached_when_every_role_has(stage: Stage) -> None:
    one, two = (Milestone(stage=stage, at=1.0, role=role) for role in ("one", "two"))
    assert not seen_of(one).is_complete([stage])
    assert seen_of(one, two).is_complete([stage])


def test_times_are_sorted_and_of_that_stage_alone() -> None:
    seen = seen_of(
        Milestone(stage=Stage.QEMU, at=1.4, role="two"),
        Milestone(stage=Stage.QEMU, at=1.1, role="one"),
        Milestone(stage=Stage.GUEST, at=0.5, role="one"),
    )
    assert seen.times(Stage.QEMU) == (1.1, 1.4)


def test_measures_bear_the_names_of_the_contract() -> None:
    assert [measure_of(stage, ".leader") for stage in Stage] == [
        f"power_cut_to_{word}_ms.leader" for word in ("suspect", "verdict", "proof", "owner", "qemu", "guest")
    ]
