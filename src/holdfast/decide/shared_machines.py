"""Witnesses that would fail together with a host that they are to judge.

Rule of the file: what the machines said of themselves when they joined is compared; an id that is not known tells
nothing. Of power feeds and storage that they share nothing is known. Source: machine-id(5), SMBIOS 7.2 (system UUID).
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, NodeSpec
from holdfast.model.snapshot import Snapshot


def shared_machines(snapshot: Snapshot) -> tuple[Condition, ...]:
    """Return a warning per witness that is a host's own machine, or a guest on it."""
    witnesses = [node.value for _, node in sorted(snapshot.nodes.items()) if node.value.is_witness]
    return tuple(
        Condition(
            code="witness-shares-machine",
            subject=witness.name,
            text=f"witness {witness.name} {how}: when that host fails, both votes are gone; move it away",
        )
        for witness in witnesses
        for how in _companies(witness, snapshot)
    )


def _companies(witness: NodeSpec, snapshot: Snapshot) -> Iterator[str]:
    for name, node in sorted(snapshot.nodes.items()):
        if node.value.is_witness:
            continue
        if witness.machine_id and witness.machine_id == node.value.machine_id:
            yield f"is on the machine of host {name} (both have machine-id {witness.machine_id})"
        elif witness.product_uuid and witness.product_uuid == node.value.product_uuid:
            yield f"is on the machine of host {name} (both have product UUID {witness.product_uuid})"
        elif witness.product_uuid and witness.product_uuid in _guests(name, snapshot):
            yield f"is a guest on host {name} (its UUID is {witness.product_uuid})"


def _guests(host: NodeName, snapshot: Snapshot) -> frozenset[str]:
    report = snapshot.reports.get(host)
    return frozenset(uuid.lower() for uuid in report.value.guests) if report is not None else frozenset()
