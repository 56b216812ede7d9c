"""The plan benchmark: how long the coordinator thinks, on made-up clusters; no lab, one core, CPU time.

Rule of the file: the clusters have what makes planning cost: sites, labels, preferred owners, failback, limits of room.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from holdfast.decide.coordination import Plan, plan
from holdfast.lab.bench.host import describe_host
from holdfast.lab.bench.report import Report, Target, target_table
from holdfast.model.ids import ClusterId, Epoch, Incarnation, NodeName, Revision, RoleName, SiteName
from holdfast.model.nodes import Capacity, NodeReport, NodeSpec, Proof, ProofKind, Session, Verdict
from holdfast.model.roles import Failback, FailbackPolicy, Label, Ownership, Phase, RoleSpec
from holdfast.model.snapshot import ClusterRecord, Coordinator, Snapshot, Versioned

GIB: Final = 1 << 30
NOW_MS: Final = 1_700_000_000_000
SIZES: Final = ((64, 2000, 6), (1000, 10_000, 100))
"""Nodes, roles, and how many nodes vanish at once."""
TARGETS: Final = (
    Target(measure="plan_idle_ms.1000x10000", title="nothing to change, 1,000 nodes, 10,000 roles, ms", median=100),
    Target(measure="plan_100_nodes_lost_ms.1000x10000", title="… 100 nodes vanish at once, ms", median=1000),
    Target(measure="plan_nowhere_ms.1000x10000", title="… and no other has room, ms", median=1000),
)


@click.command("plan", epilog="Example: ./dev bench plan --json plan.json")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1, 1000), help="Plans of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
def plan_bench(*, runs: int, json_file: Path | None) -> None:
    """Measure how long a plan takes, idle and when many nodes vanish; in CPU time of one core."""
    report = Report(benchmark="plan", runs=runs, host=asyncio.run(describe_host(has_kvm=False)))
    for nodes, roles, lost in SIZES:
        _measure(report, nodes, roles, lost)
    console = Console()
    console.print(target_table(report, TARGETS))
    if json_file is not None:
        report.write(json_file)


def _measure(report: Report, nodes: int, roles: int, lost: int) -> None:
    size = f"{nodes}x{roles}"
    idle = made_up(nodes, roles)
    vanished = without(idle, lost)
    full = without(made_up(nodes, roles, memory_bytes=0), lost)
    for _ in range(report.runs):
        _time(report, f"plan_idle_ms.{size}", idle, changes=0)
        _time(report, f"plan_{lost}_nodes_lost_ms.{size}", vanished)
        _time(report, f"plan_nowhere_ms.{size}", full, changes=0)


def _time(report: Report, measure: str, snapshot: Snapshot, changes: int | None = None) -> Plan:
    began = time.process_time()
    decided = plan(snapshot, NOW_MS)
    report.add(measure, (time.process_time() - began) * 1000)
    given = len(decided.changes)
    if given != changes if changes is not None else not given:
        report.failures.append(f"{measure}: the plan has {given} changes")
    return decided


def made_up(nodes: int, roles: int, *, memory_bytes: int = 64 * GIB) -> Snapshot:
    """A cluster that is all well: every role runs, spread evenly, on nodes of two sites."""
    names = [NodeName(f"node{number:04}") for number in range(nodes)]
    specs = {spec.name: _record(spec) for spec in (_role(number, names) for number in range(roles))}
    capacity = Capacity(memory_bytes=memory_bytes, vcpus=32)
    return Snapshot(
        revision=Revision(1),
        cluster=_record(ClusterRecord(id=ClusterId("made-up"), name="made-up", created_at_ms=0)),
        coordinator=_record(Coordinator(node=names[-1], incarnation=_incarnation(names[-1]))),
        nodes={name: _record(_node(number, name)) for number, name in enumerate(names)},
        sessions={name: _record(_session(name)) for name in names},
        reports={
            name: _record(NodeReport(node=name, incarnation=_incarnation(name), capacity=capacity, hears={}))
            for name in names
        },
        specs=specs,
        ownerships={role: _record(_online(role, names[index % nodes])) for index, role in enumerate(specs)},
    )


def without(snapshot: Snapshot, lost: int) -> Snapshot:
    """The same cluster when its first nodes were lost and are proven harmless."""
    gone = list(snapshot.nodes)[:lost]
    changes: dict[str, Any] = {
        "sessions": {name: one for name, one in snapshot.sessions.items() if name not in gone},
        "reports": {name: one for name, one in snapshot.reports.items() if name not in gone},
        "verdicts": {name: _record(_verdict(name)) for name in gone},
        "proofs": {_incarnation(name): _record(_proof(name)) for name in gone},
    }
    return replace(snapshot, **changes)


def _role(number: int, nodes: list[NodeName]) -> RoleSpec:
    """One role; a third prefers its node, and half carry a label that 20 share, hard for some."""
    apart = Label(name=f"group{number // 20}", is_hard=number % 40 < 20)
    return RoleSpec(
        name=RoleName(f"role{number:05}"),
        uuid=str(number),
        domain_xml="",
        memory_bytes=(1 + number % 4) * GIB,
        vcpus=2,
        disk_paths=(),
        preferred_owners=(nodes[number % len(nodes)],) if number % 3 == 0 else (),
        anti_affinity=(apart,) if number % 2 else (),
        failback=Failback(policy=FailbackPolicy.AT_ONCE),
    )


def _node(number: int, name: NodeName) -> NodeSpec:
    return NodeSpec(
        name=name,
        addresses={},
        is_voter=number < 5,
        etcd_client_port=0,
        etcd_peer_port=0,
        heartbeat_port=0,
        join_port=0,
        site=SiteName("east" if number % 2 else "west"),
    )


def _session(name: NodeName) -> Session:
    return Session(
        node=name,
        incarnation=_incarnation(name),
        version="",
        started_at_ms=0,
        guard_deadline_ms=4000,
        watchdog_timeout_ms=None,
    )


def _online(role: RoleName, owner: NodeName) -> Ownership:
    return Ownership(
        role=role, phase=Phase.ONLINE, epoch=Epoch(1), owner=owner, incarnation=_incarnation(owner), generation=1
    )


def _verdict(name: NodeName) -> Verdict:
    return Verdict(
        node=name,
        incarnation=_incarnation(name),
        at_ms=NOW_MS,
        proposed_by=name,
        guard_deadline_ms=4000,
        watchdog_timeout_ms=None,
        reasons=(),
    )


def _proof(name: NodeName) -> Proof:
    return Proof(
        node=name, incarnation=_incarnation(name), kind=ProofKind.POWER, at_ms=NOW_MS, by="made up", reasons=()
    )


def _incarnation(name: NodeName) -> Incarnation:
    return Incarnation(f"{name}-1")


def _record(value: Any) -> Versioned[Any]:
    return Versioned(value=value, revision=Revision(1), created=Revision(1))
