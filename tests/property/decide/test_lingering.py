"""Every start sees to all under whom a guest of the role may have written since the last start that saw to them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.decide.made_up import NOW_MS, cluster, lost, owned, proven, record, role, role_spec, up

from holdfast.decide.coordination import plan
from holdfast.decide.lifecycle import after_failed_start, next_step
from holdfast.decide.steps import Act
from holdfast.model.disks import DiskHealth, DiskState
from holdfast.model.ids import DiskName, Incarnation
from holdfast.model.nodes import GuestObservation, ProofKind
from holdfast.model.roles import Ownership, Phase, Wanted

DISK = DiskName("one")
ON_DISK: dict[str, Any] = {"disks": (DISK,), "disk_paths": (), "restart_limit": 1}
READY = {DISK: DiskHealth(state=DiskState.READY)}
NODES = ("a", "b", "c")
TAKEN_OVER = (ProofKind.RESTARTED, ProofKind.POWER, ProofKind.WATCHDOG, ProofKind.PERSON)

moments = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), st.sampled_from(GuestObservation), st.sampled_from(Wanted), st.booleans()),
        st.tuples(st.just("lost"), st.sampled_from(TAKEN_OVER)),
        st.tuples(st.just("assigned"), st.sampled_from(NODES)),
    ),
    max_size=40,
)


@given(moments)
def test_safe_1_a_start_knows_everybody_whose_writes_may_wait(moments: list[Any]) -> None:
    now = owned("web", None, lingering=())
    may_wait: set[Incarnation] = set()
    for moment in moments:
        match moment:
            case ("seen", guest, wanted, goes_well) if now.owner is not None:
                step = next_step(now, role_spec("web", **ON_DISK, wanted=wanted), guest, NOW_MS)
                now = step.record or now
                if step.act is Act.BRING_ONLINE:
                    assert now.incarnation is not None
                    assert now.lingering is not None
                    assert may_wait <= set(now.lingering)
                    if goes_well:
                        may_wait = {now.incarnation}
                    else:
                        now = after_failed_start(now, role_spec("web", **ON_DISK), "", NOW_MS)
            case ("lost", kind) if now.owner is not None:
                now = taken_over(now, kind)
            case ("assigned", node) if now.owner is None:
                now = owned("web", node, Phase.ASSIGNED, epoch=now.epoch + 1, lingering=now.lingering)
            case _:
                pass


def taken_over(before: Ownership, kind: ProofKind) -> Ownership:
    """The record after its owner was lost and proven harmless; nobody else is there to take the role."""
    owner = str(before.owner)
    other = next(node for node in NODES if node != owner)
    snapshot = cluster(up(other, disks=READY), lost(owner), role("web", **ON_DISK), record(before))
    changes = plan(proven(owner, kind=kind)(snapshot), NOW_MS).changes
    return changes[0].after if changes else before
