"""What fails together by what was declared: power feeds, racks, storage and the like, as `power:A`.

Rule of the file: only labels that people gave to nodes are compared, letter by letter. A host votes on without the
storage of its guests, for its member of the database writes to a disk of its own; a witness in a virtual machine whose
disk lies there does not. So `storage:…` of a host costs no vote. Source: docs/quorum.md, "What fails together".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from holdfast.decide.quorum import spare_voters
from holdfast.model.ids import FaultDomain, NodeName
from holdfast.model.nodes import Condition, NodeSpec
from holdfast.model.snapshot import Snapshot

STORAGE: Final = "storage:"


def shared_fault_domains(snapshot: Snapshot) -> tuple[Condition, ...]:
    """Return a warning per witness and domain that it shares with hosts, and per other one that takes the majority."""
    takers = majority_takers(snapshot, snapshot.voters())
    return tuple(
        condition
        for domain in _domains(snapshot)
        for condition in _warnings(domain, _depending(domain, snapshot), takers.get(domain, ()))
    )


def majority_takers(snapshot: Snapshot, up: Collection[NodeName]) -> dict[FaultDomain, tuple[NodeName, ...]]:
    """Return the domains whose failure ends the majority that there is, each with the voters that go with it.

    A domain of one voter says no more than that this voter may not fail.

    up   the voters that are there before.
    """
    voters = snapshot.voters()
    spare = spare_voters(voters, up)
    lost = {domain: _voters_lost(domain, snapshot, up) for domain in _domains(snapshot)}
    return {domain: gone for domain, gone in lost.items() if len(gone) > max(spare, 1) and spare >= 0}


def _domains(snapshot: Snapshot) -> list[FaultDomain]:
    return sorted({domain for node in snapshot.nodes.values() for domain in node.value.fault_domains})


def _depending(domain: FaultDomain, snapshot: Snapshot) -> list[NodeSpec]:
    return [node.value for _, node in sorted(snapshot.nodes.items()) if domain in node.value.fault_domains]


def _voters_lost(domain: FaultDomain, snapshot: Snapshot, up: Collection[NodeName]) -> tuple[NodeName, ...]:
    """The voters that are up and stop with the domain."""
    votes_on = domain.startswith(STORAGE)
    living = snapshot.voters() & set(up)
    depending = _depending(domain, snapshot)
    return tuple(node.name for node in depending if node.name in living and (node.is_witness or not votes_on))


def _warnings(domain: FaultDomain, depending: list[NodeSpec], takes: tuple[NodeName, ...]) -> Iterator[Condition]:
    hosts = ", ".join(node.name for node in depending if not node.is_witness)
    witnesses = [node.name for node in depending if node.is_witness]
    for witness in witnesses if hosts else ():
        majority = ", and with it the majority of the voters" if takes else ""
        yield Condition(
            code="witness-shares-fault-domain",
            subject=witness,
            text=f"witness {witness} shares {domain} with {hosts}: what fails there takes the witness away when it is "
            f"needed{majority}; move it away, then: holdfast node set {witness} --no-fault-domain {domain}",
        )
    if takes and not (hosts and witnesses):
        yield Condition(
            code="fault-domain-takes-majority",
            subject=domain,
            text=f"{domain} takes {', '.join(takes)}, and with them the majority of the voters: when it fails, "
            "decisions freeze; have one of them, or a witness, depend on another one",
        )
