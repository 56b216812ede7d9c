"""Witnesses that would fail together with a host that they are to judge.

Rule of the file: what the machines said of themselves when they joined is compared; an id that is not known tells
nothing. What they share beside a machine is told by people: `fault_domains`. Source: machine-id(5), SMBIOS 7.2 (system
UUID).
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.model.ids import NodeName
from holdfast.model.nodes import Condition, NodeSpec
from holdfast.model.snapshot import Snapshot


def shared_machines(snapshot: Snapshot) -> tuple[Condition, ...]:
    """Return a warning per witness that is a host's own machine, a guest on it, or a guest of the cluster."""
    witnesses = [node.value for _, node in sorted(snapshot.nodes.items()) if node.value.is_witness]
    return tuple(condition for witness in witnesses for condition in _warnings(witness, snapshot))


def _warnings(witness: NodeSpec, snapshot: Snapshot) -> Iterator[Condition]:
    ids = _spellings(witness.product_uuid)
    roles = [name for name, spec in sorted(snapshot.specs.items()) if spec.value.uuid.lower() in ids]
    for role in roles:
        yield Condition(
            code="witness-is-guest",
            subject=witness.name,
            text=f"witness {witness.name} is the guest {role} of the cluster that it judges (its UUID is "
            f"{witness.product_uuid}): it is gone with the host or the storage that fails, when it is needed; "
            "put it on a machine that is no guest of this cluster",
        )
    for how in _companies(witness, snapshot, frozenset() if roles else ids):
        yield Condition(
            code="witness-shares-machine",
            subject=witness.name,
            text=f"witness {witness.name} {how}: when that host fails, both votes are gone; move it away",
        )


def _companies(witness: NodeSpec, snapshot: Snapshot, guest_ids: frozenset[str]) -> Iterator[str]:
    for name, node in sorted(snapshot.nodes.items()):
        if node.value.is_witness:
            continue
        if witness.machine_id and witness.machine_id == node.value.machine_id:
            yield f"is on the machine of host {name} (both have machine-id {witness.machine_id})"
        elif witness.product_uuid and witness.product_uuid == node.value.product_uuid:
            yield f"is on the machine of host {name} (both have product UUID {witness.product_uuid})"
        elif guest_ids & _guests(name, snapshot):
            yield f"is a guest on host {name} (its UUID is {witness.product_uuid})"


def _guests(host: NodeName, snapshot: Snapshot) -> frozenset[str]:
    report = snapshot.reports.get(host)
    return frozenset(uuid.lower() for uuid in report.value.guests) if report is not None else frozenset()


def _spellings(uuid: str) -> frozenset[str]:
    """A guest's UUID as its definition may have it: firmware tells the first three fields in either order of bytes.

    Source: SMBIOS 7.2.1, which lays it down since version 2.6; QEMU's machine types up to 2.1 keep the other order.
    """
    fields = uuid.split("-")
    turned = ("".join(field[at : at + 2] for at in range(len(field) - 2, -1, -2)) for field in fields[:3])
    return frozenset({uuid, "-".join((*turned, *fields[3:]))})
