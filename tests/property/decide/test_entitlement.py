"""The count of acknowledgements against the definition that it stands for."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.decide.entitlement import acknowledgements_needed, entitled_until
from holdfast.model.ids import NodeName

NODES = [NodeName(name) for name in "abcdefg"]
TIMES = st.integers(0, 12).map(float)
NOW, DEADLINE_S = 10.0, 4.0


def is_entitled_by_definition(me: NodeName, voters: frozenset[NodeName], heard_at: dict[NodeName, float]) -> bool:
    """No majority of voters is possible among those that have not acknowledged within the deadline."""
    silent = [v for v in voters if v != me and min(heard_at.get(v, float("-inf")), NOW) + DEADLINE_S < NOW]
    majority = len(voters) // 2 + 1
    return bool(voters) and not any(True for _ in combinations(silent, majority))


@given(
    me=st.sampled_from(NODES),
    voters=st.frozensets(st.sampled_from(NODES)),
    heard_at=st.dictionaries(st.sampled_from(NODES), TIMES),
)
def test_safe_1_entitled_is_who_no_majority_could_have_called_lost(
    me: NodeName, voters: frozenset[NodeName], heard_at: dict[NodeName, float]
) -> None:
    until = entitled_until(me=me, voters=voters, acknowledged_at=heard_at, now=NOW, deadline_s=DEADLINE_S)
    by_definition = is_entitled_by_definition(me, voters, heard_at)
    if me in voters or not voters:
        assert (until >= NOW) is by_definition
    else:
        assert by_definition or until < NOW, "a node without a vote may be stricter, never laxer"


@given(
    me=st.sampled_from(NODES),
    voters=st.frozensets(st.sampled_from(NODES), min_size=1),
    heard_at=st.dictionaries(st.sampled_from(NODES), TIMES),
    data=st.data(),
)
def test_safe_1_after_a_majority_refused_nothing_moves_the_deadline_beyond_one_deadline(
    me: NodeName, voters: frozenset[NodeName], heard_at: dict[NodeName, float], data: st.DataObject
) -> None:
    """The arithmetic of the watchdog proof: no heartbeat sent after the refusal is acknowledged by a refusing voter."""
    refused_at = 5.0
    size = st.sampled_from(sorted(voters))
    refusing = data.draw(st.frozensets(size, min_size=min(len(voters), len(voters) // 2 + 1)))
    if me in refusing or len(refusing) <= len(voters) // 2:
        return
    acknowledged = {node: min(at, refused_at) if node in refusing else at for node, at in heard_at.items()}
    until = entitled_until(me=me, voters=voters, acknowledged_at=acknowledged, now=NOW, deadline_s=DEADLINE_S)
    assert until <= refused_at + DEADLINE_S


@given(st.integers(1, 99))
def test_those_needed_and_a_majority_always_share_a_voter(voters: int) -> None:
    majority = voters // 2 + 1
    assert acknowledgements_needed(voters) + majority == voters + 1
