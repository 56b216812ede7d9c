"""What fails together by what was declared, and who is warned of it."""

from __future__ import annotations

from itertools import combinations

import pytest
from tests.unit.decide.made_up import Part, cluster, known

from holdfast.decide.fault_domains import majority_takers, shared_fault_domains
from holdfast.model.ids import NodeName


def host(name: str, *domains: str, is_voter: bool = True) -> Part:
    return known(name, is_voter=is_voter, fault_domains=domains)


def witness(name: str, *domains: str, is_voter: bool = True) -> Part:
    return known(name, is_voter=is_voter, is_witness=True, fault_domains=domains)


def warned(*parts: Part) -> list[tuple[str, str, str]]:
    """Per condition its code, its subject and what it says of the matter, without what to do."""
    found = shared_fault_domains(cluster(*parts))
    return [(one.code, one.subject, one.text.partition(";")[0]) for one in found]


def shares(domain: str, hosts: str, *, takes_majority: bool = False) -> tuple[str, str, str]:
    rest = ", and with it the majority of the voters" if takes_majority else ""
    text = f"witness w shares {domain} with {hosts}: what fails there takes the witness away when it is needed{rest}"
    return "witness-shares-fault-domain", "w", text


def takes(domain: str, voters: str) -> tuple[str, str, str]:
    text = f"{domain} takes {voters}, and with them the majority of the voters: when it fails, decisions freeze"
    return "fault-domain-takes-majority", domain, text


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((host("a"), host("b"), witness("w")), []),
        ((host("a", "power:A"), host("b", "power:B"), witness("w", "power:C")), []),
        (
            (host("a", "power:A"), host("b", "power:B"), witness("w", "power:A")),
            [shares("power:A", "a", takes_majority=True)],
        ),
        (
            (host("a", "power:A", "rack:1"), host("b", "power:A"), witness("w", "power:A", "rack:1")),
            [shares("power:A", "a, b", takes_majority=True), shares("rack:1", "a", takes_majority=True)],
        ),
        ((host("a", "power:A"), host("b", "power:A"), witness("w")), [takes("power:A", "a, b")]),
        ((host("a", "power:A"), host("b", "power:A", is_voter=False)), []),
        ((host("a"), host("b"), host("c", "rack:1", is_voter=False), witness("w", "rack:1")), [shares("rack:1", "c")]),
        ((host("a"), witness("v", "power:A"), witness("w", "power:A")), [takes("power:A", "v, w")]),
    ],
    ids=[
        "nothing-declared",
        "nothing-shared",
        "witness-and-a-host",
        "two-domains",
        "both-hosts",
        "without-a-vote",
        "host-without-a-vote",
        "two-witnesses",
    ],
)
def test_a_witness_with_a_host_and_a_majority_are_named(
    parts: tuple[Part, ...], expected: list[tuple[str, str, str]]
) -> None:
    assert warned(*parts) == expected


def test_storage_takes_the_witness_that_lies_on_it_and_no_votes_of_hosts() -> None:
    """Hosts that have their guests on one SAN are the usual case, and it takes no host's vote."""
    hosts = (host("a", "storage:san1"), host("b", "storage:san1"))
    assert warned(*hosts, witness("w")) == []
    assert warned(*hosts, witness("w", "storage:san1")) == [shares("storage:san1", "a, b")]


def test_every_warning_names_what_to_do() -> None:
    parts = (host("a", "power:A", "rack:1"), host("b", "rack:1"), witness("w", "power:A"))
    first, second = shared_fault_domains(cluster(*parts))
    assert first.text.endswith("holdfast node set w --no-fault-domain power:A")
    assert second.text.endswith("have one of them, or a witness, depend on another one")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_a_domain_takes_the_majority_exactly_when_too_few_are_left(count: int) -> None:
    """By a count over every group of voters that depends on one thing, and every group that is up before."""
    names = [NodeName(name) for name in "abcde"[:count]]
    groups = [group for size in range(count + 1) for group in combinations(names, size)]
    for depending in groups:
        snapshot = cluster(*(host(name, *(["power:A"] if name in depending else [])) for name in names))
        for up in groups:
            gone = tuple(name for name in up if name in depending)
            left = [name for name in up if name not in depending]
            has_majority, keeps_majority = 2 * len(up) > count, 2 * len(left) > count
            expected = {"power:A": gone} if len(gone) > 1 and has_majority and not keeps_majority else {}
            assert majority_takers(snapshot, up) == expected
