"""The scale benchmark: what grows how with the size of a cluster; simulated nodes, real decisions, real heartbeats.

Rule of the file: what is counted (writes, datagrams, bytes) is exact and repeats; seconds of `failover_s` and
`cold_start_s` are virtual; milliseconds of planning are CPU time of one core. Sizes are NODESxROLES.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from holdfast.decide.coordination import plan
from holdfast.lab.bench.host import describe_host
from holdfast.lab.bench.plan import NOW_MS, made_up, without
from holdfast.lab.bench.report import Report
from holdfast.membership.heartbeat import Heard, Heartbeat
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName
from holdfast.model.nodes import Capacity
from holdfast.model.settings import Timings
from holdfast.sim.layout import GIB, Make, layout_of
from holdfast.sim.world import World

ROLES_PER_NODE: Final = 31.25
SIMULATED: Final = (2, 4, 8, 16, 32, 64)
PLANNED: Final = (*SIMULATED, 125, 250, 500, 1000)
PLANNED_ROLES_MAX: Final = 10_000
NETWORKS: Final = (NetworkName("cluster-a"), NetworkName("cluster-b"))
HEADERS_BYTES: Final = 14 + 20 + 8
"""Ethernet, IPv4 and UDP, around every datagram."""
START_WITHIN_S: Final = 120.0
SETTLE_S: Final = 70.0
"""After this the coordinator has dropped the surplus of events that the start left behind."""
IDLE_S: Final = 30.0
FAILOVER_WITHIN_S: Final = 60.0
LOOK_S: Final = 0.05
MEASURES: Final = {
    "heartbeats_per_node_per_s": "heartbeats a node sends, 1/s",
    "heartbeat_kbit_per_node_per_s": "… kbit/s on both networks",
    "idle_writes_per_s": "idle: writes to the database, 1/s",
    "failover_writes": "one node lost: writes until all is well",
    "failover_s": "… virtual seconds until its last guest runs",
    "cold_start_s": "cold start: virtual seconds until all run",
    "plan_idle_ms": "plan with nothing to change, ms",
    "plan_node_lost_ms": "plan when one node is lost, ms",
}


@click.command("scale", epilog="Example: ./dev bench scale --nodes 16 --json scale.json --plot scale.svg")
@click.option("--nodes", "largest", default=64, show_default=True, type=click.IntRange(2, 64), help="Simulate up to.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Plans of each size.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@click.option("--plot", "svg_file", type=click.Path(path_type=Path, dir_okay=False), help="Draw it here, as SVG.")
def scale(*, largest: int, runs: int, json_file: Path | None, svg_file: Path | None) -> None:
    """Measure what grows how, from 2 simulated nodes to 64 with 2,000 roles, and plans for 1,000 nodes.

    64 nodes take about ten minutes of one core; --nodes 16 takes half a minute.
    """
    logging.disable(logging.ERROR)  # the plug is pulled on purpose, and every node would say so
    console = Console()
    report = Report(benchmark="scale", runs=runs, host=asyncio.run(describe_host(has_kvm=False)))
    for nodes in SIMULATED:
        if nodes <= largest:
            console.print(f"simulating {nodes} nodes, {_roles_of(nodes)} roles", style="dim")
            _simulate(report, nodes)
            _weigh_heartbeats(report, nodes)
    for nodes in PLANNED:
        _plan(report, nodes)
    console.print(_table(report))
    if json_file is not None:
        report.write(json_file)
    if svg_file is not None:
        _draw(report, svg_file)


def _roles_of(nodes: int) -> int:
    return min(PLANNED_ROLES_MAX, round(nodes * ROLES_PER_NODE))


def _size(nodes: int) -> str:
    return f"{nodes}x{_roles_of(nodes)}"


def _simulate(report: Report, nodes: int) -> None:
    """Bring a cluster up, let it idle, and pull the plug of its last node."""
    world = roomy_world(nodes, _roles_of(nodes))
    try:
        report.add(f"cold_start_s.{_size(nodes)}", _run_until_all_run(world, START_WITHIN_S))
        world.loop.run_until(world.loop.time() + SETTLE_S)
        before = world.database.revision
        world.loop.run_until(world.loop.time() + IDLE_S)
        report.add(f"idle_writes_per_s.{_size(nodes)}", (world.database.revision - before) / IDLE_S)
        before = world.database.revision
        victim = NodeName(f"node{nodes}")
        world.machines[victim].power_off("plug pulled")
        if nodes > len(NETWORKS):
            report.add(f"failover_s.{_size(nodes)}", _run_until_all_run(world, FAILOVER_WITHIN_S))
            report.add(f"failover_writes.{_size(nodes)}", world.database.revision - before)
    except TimeoutError as error:
        report.failures.append(f"{_size(nodes)}: {error}")
    finally:
        world.close()


def roomy_world(nodes: int, roles: int) -> World:
    """A simulated cluster whose every node could hold all of its neighbours' roles."""
    make = Make(nodes=nodes, roles=roles, networks=NETWORKS)
    layout = layout_of(make)
    room = Capacity(memory_bytes=4 * round(ROLES_PER_NODE) * GIB, vcpus=128)
    specs = tuple(replace(node, capacity=room) for node in layout.nodes)
    return World(make, seed=1, layout=replace(layout, nodes=specs))


def _run_until_all_run(world: World, within_s: float) -> float:
    """Let it run until every guest executes on a machine with power; returns how long that took, in virtual seconds."""
    began = world.loop.time()
    wanted = len(world.roles())
    while len(world.truth.living()) < wanted:
        if world.loop.time() > began + within_s:
            raise TimeoutError(f"{len(world.truth.living())} of {wanted} guests run after {within_s:.0f} s")
        world.loop.run_until(world.loop.time() + LOOK_S)
    return world.loop.time() - began


def _weigh_heartbeats(report: Report, nodes: int) -> None:
    """Make a heartbeat as it goes over the wire, and say what one node sends."""
    per_s = (nodes - 1) * len(NETWORKS) * 1000 / Timings().heartbeat_interval_ms
    bits = 8 * (len(_heartbeat(nodes)) + HEADERS_BYTES)
    report.add(f"heartbeats_per_node_per_s.{_size(nodes)}", per_s)
    report.add(f"heartbeat_kbit_per_node_per_s.{_size(nodes)}", per_s * bits / 1000)


def _heartbeat(nodes: int) -> bytes:
    """A sealed heartbeat of a node that hears all others on both networks."""
    cluster = ClusterId("00000000-0000-4000-8000-000000000000")
    incarnations = [Incarnation(f"00000000-0000-4000-8000-{number:012}") for number in range(nodes)]
    heard = tuple(
        Heard(node=NodeName(f"node{number}"), incarnation=incarnations[number], network=network, sequence=1, age_ms=1)
        for number in range(1, nodes)
        for network in NETWORKS
    )
    heartbeat = Heartbeat(
        cluster_id=cluster,
        node=NodeName("node0"),
        incarnation=incarnations[0],
        sequence=1,
        sent_at_ms=1,
        wall_clock_ms=1,
        heard=heard,
    )
    codec = HeartbeatCodec(cluster_id=cluster, cluster_key=bytes(32), networks=NETWORKS)
    return codec.encode(heartbeat, NETWORKS[0])


def _plan(report: Report, nodes: int) -> None:
    idle = made_up(nodes, _roles_of(nodes))
    vanished = without(idle, 1)
    for _ in range(report.runs):
        for measure, snapshot in (("plan_idle_ms", idle), ("plan_node_lost_ms", vanished)):
            began = time.process_time()
            plan(snapshot, NOW_MS)
            report.add(f"{measure}.{_size(nodes)}", (time.process_time() - began) * 1000)


def _table(report: Report) -> Table:
    table = Table(title="what grows how", title_justify="left", box=None, pad_edge=False)
    table.add_column("what")
    for nodes in PLANNED:
        table.add_column(f"{nodes}\n{_roles_of(nodes)}", justify="right")
    for measure, title in MEASURES.items():
        table.add_row(title, *(_shown(report, measure, nodes) for nodes in PLANNED))
    return table


def _shown(report: Report, measure: str, nodes: int) -> str:
    values = report.measures.get(f"{measure}.{_size(nodes)}")
    return "-" if values is None else f"{sorted(values)[len(values) // 2]:.4g}"


def _draw(report: Report, file: Path) -> None:
    """Draw every measure over the number of nodes, both on logarithmic axes: a straight line is a power law."""
    import pygal  # type: ignore[import-untyped]  # has no types; wanted for the drawing alone

    chart = pygal.Line(
        logarithmic=True,
        width=900,
        height=560,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        x_title="nodes (31 roles each, at most 10,000)",
        include_x_axis=False,
        disable_xml_declaration=True,
        js=(),
    )
    chart.x_labels = [str(nodes) for nodes in PLANNED]
    for measure, title in MEASURES.items():
        values = [report.measures.get(f"{measure}.{_size(nodes)}") for nodes in PLANNED]
        chart.add(title, [sorted(found)[len(found) // 2] or None if found else None for found in values])
    file.write_text(chart.render(is_unicode=True))
