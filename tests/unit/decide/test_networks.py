"""Which changes of a node's addresses are refused, with whom they would part, and what follows from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.decide.made_up import Part, cluster, known, lost, up

from holdfast.decide.networks import Reach, changed_addresses, check_addresses, consequence
from holdfast.model.errors import Conflict, HoldfastError, InvalidInput, NotFound, Refused
from holdfast.model.ids import NetworkName, NodeName
from holdfast.model.snapshot import Snapshot

A, B, S = (NetworkName(name) for name in ("cluster-a", "cluster-b", "storage"))
ONE, TWO, THREE = (NodeName(name) for name in ("node1", "node2", "node3"))
NUMBERS = {ONE: 1, TWO: 2, THREE: 3}


def place(name: NodeName, *networks: NetworkName, **changes: Any) -> Part:
    """A node that is up, with an address on each of these networks."""
    addresses = {network: ip(name, network) for network in networks or (A, B)}

    def part(snapshot: Snapshot) -> Snapshot:
        return up(name)(known(name, addresses=addresses, **changes)(snapshot))

    return part


def ip(name: NodeName, network: NetworkName) -> str:
    return f"10.0.{(A, B, S).index(network)}.{NUMBERS[name]}"


def all_well(*but: NetworkName, members: bool = True) -> Reach:
    """Everybody is heard everywhere, but on these; the members began on cluster-a and cluster-b."""
    heard = tuple(network for network in (A, B, S) if network not in but)
    return Reach(
        heard_on={TWO: heard, THREE: heard},
        members={name: (ip(name, A), ip(name, B)) for name in NUMBERS} if members else {},
    )


def refusal(snapshot: Snapshot, changes: Mapping[str, str | None], reach: Reach) -> HoldfastError:
    with pytest.raises(HoldfastError) as refused:
        check_addresses(snapshot, ONE, changed_addresses(snapshot.nodes[ONE].value, changes), reach)
    return refused.value


def accepted(snapshot: Snapshot, changes: Mapping[str, str | None], reach: Reach) -> bool:
    check_addresses(snapshot, ONE, changed_addresses(snapshot.nodes[ONE].value, changes), reach)
    return True


def test_a_network_is_added_at_the_end_and_changed_or_taken_where_it_is() -> None:
    spec = cluster(place(ONE)).nodes[ONE].value
    assert list(changed_addresses(spec, {"storage": "10.0.2.1"}).items())[2:] == [(S, "10.0.2.1")]
    assert list(changed_addresses(spec, {"cluster-a": "10.9.0.1"})) == [A, B]
    assert list(changed_addresses(spec, {"cluster-a": None})) == [B]
    with pytest.raises(NotFound, match="storage"):
        changed_addresses(spec, {"storage": None})
    with pytest.raises(Refused, match="no network left"):
        changed_addresses(spec, {"cluster-a": None, "cluster-b": None})
    with pytest.raises(InvalidInput, match="one address on two networks"):
        changed_addresses(spec, {"storage": "10.0.0.1"})


def test_networks_are_added_one_node_after_the_other_and_then_one_is_taken_away() -> None:
    three = (place(ONE), place(TWO), place(THREE))
    assert accepted(cluster(*three), {"storage": "10.0.2.1"}, all_well(S))
    new = (place(ONE, A, B, S), place(TWO, A, B, S), place(THREE, A, B, S))
    assert accepted(cluster(*new), {"cluster-a": None}, all_well())
    assert accepted(cluster(place(ONE, A, B, S), place(TWO, B, S), place(THREE, B, S)), {"cluster-a": None}, all_well())


def test_the_pair_that_would_have_no_common_network_is_named() -> None:
    found = refusal(cluster(place(ONE), place(TWO), place(THREE, A)), {"cluster-a": None}, all_well(members=False))
    assert "node1 and node3 would have no common network" in found.message
    assert "node3 has cluster-a" in found.message


def test_a_network_whose_address_changes_does_not_carry_the_pair_meanwhile() -> None:
    alone = cluster(place(ONE, A), place(TWO, A))
    assert "node1 and node2" in refusal(alone, {"cluster-a": "10.0.0.9"}, all_well(members=False)).message
    assert accepted(cluster(place(ONE), place(TWO)), {"cluster-a": "10.0.0.9"}, all_well())


def test_nobody_is_left_with_a_network_on_which_it_is_not_heard_now() -> None:
    found = refusal(cluster(place(ONE), place(TWO)), {"cluster-a": None}, all_well(B))
    assert "node1 hears node2 on cluster-a, storage now, and of their common networks only cluster-b" in found.message
    down = cluster(place(ONE), known(TWO, addresses={A: ip(TWO, A), B: ip(TWO, B)}))
    assert accepted(down, {"cluster-a": None}, all_well(B))


def test_a_network_may_be_added_to_mend_a_bad_connection() -> None:
    deaf = Reach(heard_on={TWO: ()}, members=all_well().members)
    assert accepted(cluster(place(ONE), place(TWO)), {"storage": "10.0.2.1"}, deaf)
    assert "no network now" in refusal(cluster(place(ONE), place(TWO)), {"cluster-a": None}, deaf).message


@pytest.mark.parametrize("members", [True, False])
def test_an_address_of_another_node_or_of_its_member_is_taken(members: bool) -> None:
    """Of node2 the record has given 10.0.0.2 up already; the members still call its member there."""
    snapshot = cluster(place(ONE), place(TWO, B) if members else place(TWO))
    found = refusal(snapshot, {"storage": "10.0.0.2"}, all_well(members=members))
    assert isinstance(found, Conflict)
    assert "10.0.0.2 belongs to node node2" in found.message


def test_safe_4_a_member_keeps_an_address_at_which_it_is_called() -> None:
    snapshot = cluster(place(ONE, A, S), place(TWO, A, S), place(THREE, A, S))
    found = refusal(snapshot, {"cluster-a": None}, all_well())
    assert "is reached at 10.0.0.1, 10.0.1.1 only" in found.message
    assert "holdfast quorum restart node1" in found.hint
    assert accepted(snapshot, {"cluster-a": None}, all_well(members=False))


def test_safe_4_two_members_keep_a_network_on_which_both_are_called() -> None:
    snapshot = cluster(place(ONE, A, B, S), place(TWO, A, S))
    assert "on node1 and node2 would have no common" in refusal(snapshot, {"cluster-a": None}, all_well()).message


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((known(ONE),), "not up"),
        ((lost(ONE),), "not up"),
        ((place(ONE, is_witness=True),), "is a witness"),
    ],
)
def test_only_a_node_that_is_up_changes(parts: tuple[Part, ...], words: str) -> None:
    assert words in refusal(cluster(*parts), {"storage": "10.0.2.1"}, all_well()).message


def test_what_follows_is_said_with_what_was() -> None:
    before = {A: "10.0.0.1", B: "10.0.1.1"}
    said = consequence(ONE, before, {**before, S: "10.0.2.1"})
    assert said == "node1: heartbeats on cluster-a, cluster-b, storage (was: cluster-a, cluster-b)"
