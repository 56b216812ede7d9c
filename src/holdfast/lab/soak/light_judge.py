"""What may not be in a light world, and what is missing until everything works.

Rule of the file: it reads blocks, boards and what is committed. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from holdfast.lab.soak.blocks import Region, faults_of
from holdfast.lab.soak.light_cluster import ROLES
from holdfast.lab.soak.light_machine import LightMachine
from holdfast.model.ids import NodeName
from holdfast.model.roles import Phase
from holdfast.model.snapshot import Snapshot

GONE_WITHIN_S: Final = 1.0 + 1.5
"""The promise, and what a busy machine adds to it."""

Machines = Mapping[str, LightMachine]


def faults_on_disk(number: int, regions: Sequence[Region], machines: Machines) -> list[str]:
    """What the blocks of a role's LUN show that exclusive owners cannot have written, or that was lost."""
    found = [f"{ROLES[number]}: {fault}" for fault in faults_of(regions)]
    for machine in machines.values():
        instance, region, count = machine.board.acknowledged(number)
        is_there = region < len(regions) and regions[region].owner.instance == instance
        if instance and is_there and regions[region].count < count:
            found.append(f"{ROLES[number]}: record {count} of {instance} was acknowledged and is not there")
    return found


def outlived(machine: LightMachine, proven_at: Mapping[str, float], now: float) -> list[str]:
    """The guests that were there for too long after their node could know that it was expelled."""
    found = []
    for instance, ended_at in machine.guests.items():
        expelled_at = proven_at.get(machine.born_of[instance])
        due_at = None if expelled_at is None else due(machine.able, expelled_at)
        if due_at is not None and (ended_at or now) > due_at:
            late_s = (ended_at or now) - due_at + GONE_WITHIN_S
            found.append(f"guest {instance} outlived by {late_s:.1f} s that {machine.name} was expelled")
    return found


def due(able: Sequence[tuple[float, bool]], proven_at: float) -> float | None:
    """When a node that was expelled must have ended its guests; None when it has not had the time yet."""
    for (since, can), (until, _) in zip(able, [*able[1:], (float("inf"), False)], strict=True):
        begin = max(since, proven_at)
        if can and until - begin > GONE_WITHIN_S:
            return begin + GONE_WITHIN_S
    return None


def missing(snapshot: Snapshot, machines: Machines) -> str:
    """What is not as it is in a healthy cluster; empty when all nodes, disks and guests are well."""
    for name, machine in machines.items():
        session = snapshot.sessions.get(NodeName(name))
        if session is None or session.value.incarnation != machine.incarnation:
            return f"{name} is not up"
    return disks_missing(snapshot, machines) or _guests_missing(snapshot, machines)


def disks_missing(snapshot: Snapshot, machines: Machines) -> str:
    """Which disk is not ready on which node; empty when all are."""
    for name, machine in machines.items():
        report = snapshot.reports.get(NodeName(name))
        if report is None or report.value.incarnation != machine.incarnation:
            return f"{name} does not report"
        for disk in snapshot.disks:
            health = report.value.disks.get(disk)
            if health is None or not health.is_ready:
                return f"{name}: {disk}: {health}"
    return ""


def _guests_missing(snapshot: Snapshot, machines: Machines) -> str:
    for number, role in enumerate(ROLES):
        ownership = snapshot.ownerships.get(role)
        if ownership is None or ownership.value.phase is not Phase.ONLINE:
            return f"{role} is not online"
        living = [
            name
            for name, machine in machines.items()
            for instance, ended_at in machine.guests.items()
            if ended_at is None and machine.board.acknowledged(number)[0] == instance
        ]
        if living != [str(ownership.value.owner)]:
            return f"{role} of {ownership.value.owner} runs on {living}"
    return ""


def roles_running(snapshot: Snapshot) -> str:
    """Which role is not stopped; empty when all are."""
    owned = snapshot.ownerships
    return ", ".join(
        role for role in ROLES if (found := owned.get(role)) is not None and found.value.phase is not Phase.VACANT
    )


def counts(machines: Machines) -> list[tuple[int, int]]:
    """Per role the newest region and its acknowledged records."""
    found = []
    for number in range(len(ROLES)):
        told = [machine.board.acknowledged(number) for machine in machines.values()]
        found.append(max((region, count) for _, region, count in told))
    return found
