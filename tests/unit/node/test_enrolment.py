"""Who is let in: a version that goes with all, a clock in time, a name and addresses of its own, the same networks."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import NOW_MS, Part, cluster, known, lost, put, role, session, up

from holdfast import __version__
from holdfast.membership.identity import Ports
from holdfast.model.errors import Conflict, HoldfastError, Refused
from holdfast.model.snapshot import Snapshot
from holdfast.node.enrolment import JoinRequest, addresses_on_the_way, check_joiner, has_been_up, peers_of

ADDRESSES = {"cluster-a": "192.0.2.9", "cluster-b": "198.51.100.9"}


def members(*parts: Part) -> Snapshot:
    return cluster(known("a", addresses={"cluster-a": "192.0.2.1", "cluster-b": "198.51.100.1"}), *parts)


def request(**changes: Any) -> JoinRequest:
    given: dict[str, Any] = {
        "token": "t",
        "node": "d",
        "addresses": ADDRESSES,
        "ports": Ports(),
        "version": __version__,
        "wall_clock_ms": NOW_MS,
        "request_pem": "pem",
    }
    return JoinRequest(**{**given, **changes})


def test_a_machine_that_fits_is_let_in() -> None:
    assert check_joiner(request(), members(), now_ms=NOW_MS) is None


def test_one_release_of_difference_is_let_in_and_two_are_not_whoever_answers() -> None:
    assert check_joiner(request(version="0.2.0"), members(), now_ms=NOW_MS) is None
    upgraded = put("sessions", "a", session("a", version="0.3.0"))(members())
    with pytest.raises(Refused, match=r"runs Holdfast 0\.1\.0, this cluster 0\.3\.0"):
        check_joiner(request(), upgraded, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"version": "9.9.9"}, Refused, ["9.9.9", __version__]),
        ({"version": "0.3.0"}, Refused, ["0.3.0", __version__]),
        ({"wall_clock_ms": NOW_MS + 60_001}, Refused, ["+60 s", "d"]),
        ({"wall_clock_ms": NOW_MS - 3_600_000}, Refused, ["-3600 s"]),
        ({"node": "a"}, Conflict, ["a"]),
        ({"addresses": {"cluster-a": "192.0.2.9"}}, Refused, ["cluster-a", "cluster-b"]),
        ({"addresses": {**ADDRESSES, "more": "203.0.113.9"}}, Refused, ["more"]),
        ({"addresses": {**ADDRESSES, "cluster-b": "198.51.100.1"}}, Conflict, ["198.51.100.1", "a"]),
    ],
    ids=[
        "version",
        "two-releases-ahead",
        "clock-ahead",
        "clock-behind",
        "name-taken",
        "network-missing",
        "network-unknown",
        "address-taken",
    ],
)
def test_what_does_not_fit_is_refused_with_both_values(
    changes: dict[str, Any], kind: type[HoldfastError], said: list[str]
) -> None:
    with pytest.raises(kind) as refused:
        check_joiner(request(**changes), members(), now_ms=NOW_MS)
    assert refused.value.hint
    assert all(text in refused.value.message for text in said)


@pytest.mark.parametrize("off_ms", [60_000, -60_000])
def test_a_clock_within_a_minute_is_let_in(off_ms: int) -> None:
    assert check_joiner(request(wall_clock_ms=NOW_MS + off_ms), members(), now_ms=NOW_MS) is None


def test_a_join_that_was_aborted_may_be_repeated_with_the_same_name_and_addresses() -> None:
    snapshot = members(known("d", is_voter=False, addresses=ADDRESSES))
    assert check_joiner(request(), snapshot, now_ms=NOW_MS) is snapshot.nodes["d"]  # type: ignore[index]


@pytest.mark.parametrize(
    "part",
    [up("d"), lost("d"), role("web", owner="d"), known("d", addresses=ADDRESSES)],
    ids=["up", "lost", "owns", "votes"],
)
def test_safe_1_a_name_that_was_ever_in_use_is_not_given_away(part: Part) -> None:
    snapshot = members(known("d", is_voter=False, addresses=ADDRESSES), part)
    with pytest.raises(Conflict):
        check_joiner(request(), snapshot, now_ms=NOW_MS)


def test_a_node_that_only_joined_has_not_been_up() -> None:
    assert not has_been_up("d", members(known("d", is_voter=False)))


def test_peers_are_all_others_in_order() -> None:
    snapshot = members(known("c", is_voter=False), known("b"))
    assert [(peer.node, peer.is_voter) for peer in peers_of(snapshot, without=snapshot.nodes["a"].value.name)] == [  # type: ignore[index]
        ("b", True),
        ("c", False),
    ]


def test_a_witness_needs_only_the_networks_that_it_reaches_and_may_share_an_address() -> None:
    reached = {"192.0.2.1": "192.0.2.9", "203.0.113.5": "203.0.113.9"}
    assert addresses_on_the_way(reached, members()) == {"cluster-a": "192.0.2.9"}
    with pytest.raises(HoldfastError, match=r"203\.0\.113\.5"):
        addresses_on_the_way({"203.0.113.5": "203.0.113.9"}, members())
    one = {"addresses": {"cluster-a": "192.0.2.1"}, "is_witness": True}
    assert check_joiner(request(**one), members(), now_ms=NOW_MS) is None
    with pytest.raises(Refused):
        check_joiner(request(addresses={"more": "203.0.113.9"}, is_witness=True), members(), now_ms=NOW_MS)
