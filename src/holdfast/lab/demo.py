"""The demo: a cluster comes up on this machine, a node loses its power, and its guests run on elsewhere.

Rule of the file: everything shown is what the cluster, the machine and the guests say at that moment; the lab stays up,
and only Ctrl-C takes it down.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.client import requests
from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import LabBroken
from holdfast.lab.exclusive import exclusively
from holdfast.lab.failover import Failover, Milestone, Stage, pull_plug
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab
from holdfast.lab.layout import node_name
from holdfast.lab.provision import add_guests, client_of, forming, services
from holdfast.lab.records import overlaps_on
from holdfast.model.errors import HoldfastError

GUESTS = 4
ON_THE_VICTIM = 2
WORDS = {
    Stage.SUSPECT: "suspect",
    Stage.VERDICT: "lost: verdict committed",
    Stage.PROOF: "proof committed",
    Stage.OWNER: "new owner committed",
    Stage.QEMU: "QEMU running",
    Stage.GUEST: "guest answers",
}


@click.command(epilog="Example: ./dev demo --nodes 5 --victim node1")
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(3, 16), help="How many nodes.")
@click.option("--victim", default="node2", show_default=True, help="The node that loses its power.")
@click.option("--name", default="demo", show_default=True, help="Name of the lab, which is built anew.")
def demo(*, nodes: int, victim: str, name: str) -> None:
    """Bring a cluster up, pull a plug, and watch the guests come back."""
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        lab = Lab(name)
        with exclusively(lab):
            is_well = asyncio.run(_demo(lab, nodes, victim, console))
    except KeyboardInterrupt:
        sys.exit(130)
    except HoldfastError as error:
        console.print(f"error: {error}", style="bold red")
        hint = error.hint or f"./dev exec holdfast lab status --name {name}; logs: /var/lib/holdfast-lab/{name}"
        sys.exit(f"next: {hint}")
    sys.exit(0 if is_well else 1)


async def _demo(lab: Lab, nodes: int, victim: str, console: Console) -> bool:
    names = [node_name(number) for number in range(1, nodes + 1)]
    if victim not in names:
        raise LabBroken(f"there will be no {victim}", hint=f"choose one of {', '.join(names)}")
    try:
        return await _play(lab, names, victim, console)
    except asyncio.CancelledError:
        await lab.down(progress=lambda line: console.print(line, style="dim"))
        raise


async def _play(lab: Lab, names: Sequence[str], victim: str, console: Console) -> bool:
    others = [name for name in names if name != victim]
    _heading(console, f"A cluster of {len(names)} nodes, each with its own libvirt, etcd and Holdfast")
    await _bring_up(lab, len(names), console)
    _heading(console, f"{GUESTS} virtual machines, {ON_THE_VICTIM} of them on {victim}")
    guests = await _start_guests(lab, victim, others, console)
    _heading(console, f"{others[0]}# holdfast status")
    await _holdfast_status(lab, others[0])
    _heading(console, f"Pulling the plug of {victim}")
    console.print("    0.00 s  power cut", style="bold")
    seen = await pull_plug(
        lab,
        victim,
        {guest.name: guest for guest in guests},
        asked=others[0],
        show=lambda milestone: _show(milestone, victim, console),
    )
    _heading(console, "Seconds after the power cut")
    console.print(_times(seen))
    is_well = _tell_double_runs(guests, console)
    _heading(console, f"{others[0]}# holdfast status")
    await _holdfast_status(lab, others[0])
    _tell_what_next(lab.layout.name, others[0], victim, seen, console)
    return is_well


async def _bring_up(lab: Lab, nodes: int, console: Console) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    def progress(line: str) -> None:
        console.print(f"  {loop.time() - began:6.2f} s  {line}", style="dim")

    await lab.down(progress=progress)
    options = LabOptions(nodes=nodes, services=services(has_watchdog=True, watchdog_timeout_s=3.0))
    await lab.up(options, provision=forming(), progress=progress)


async def _start_guests(lab: Lab, victim: str, others: Sequence[str], console: Console) -> list[Guest]:
    owners = dict.fromkeys(range(1, ON_THE_VICTIM + 1), victim)
    owners |= {index: others[index % len(others)] for index in range(ON_THE_VICTIM + 1, GUESTS + 1)}
    loop = asyncio.get_running_loop()
    began = loop.time()
    guests = await add_guests(lab, GUESTS, asked=others[0], owners=owners)
    client = await client_of(lab, others[0])

    async def start(guest: Guest) -> None:
        await client.call(requests.start_vm(guest.name, wait=True))
        await guest.wait_answer(timeout_s=120.0)
        console.print(f"  {loop.time() - began:6.2f} s  {guest.name} answers at {guest.address}", style="dim")

    try:
        async with asyncio.TaskGroup() as tasks:
            for guest in guests:
                tasks.create_task(start(guest))
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    return guests


async def _holdfast_status(lab: Lab, node: str) -> None:
    """Run the command in the node, on this very terminal."""
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(*await lab.joining_command(node, "holdfast", "status"))
    if await process.wait() != 0:
        raise LabBroken(f"`holdfast status` on {node} ended with {process.returncode}")


def _show(milestone: Milestone, victim: str, console: Console) -> None:
    """Print one line of the time line."""
    if milestone.silent_s is not None:
        console.print(f"  {milestone.at - milestone.silent_s:6.2f} s  last heartbeat of {victim}")
    subject = milestone.role or victim
    words = f"new owner is {milestone.node}" if milestone.stage is Stage.OWNER else WORDS[milestone.stage]
    style = "bold green" if milestone.stage is Stage.GUEST else None
    console.print(f"  {milestone.at:6.2f} s  {subject}: {words}", style=style)
    if milestone.why and milestone.stage is not Stage.PROOF:  # its reason is the verdict's, in most cases
        console.print(Padding(Text(milestone.why, style="dim"), (0, 0, 0, 12)))


def _times(seen: Failover) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("  until")
    for heading in ("first", "last"):
        table.add_column(heading, justify="right")
    for stage in Stage:
        times = seen.times(stage)
        table.add_row(f"  {WORDS[stage]}", f"{times[0]:.2f}", f"{times[-1]:.2f}" if len(times) > 1 else "")
    return table


def _tell_double_runs(guests: Sequence[Guest], console: Console) -> bool:
    """Say what the guests' own disks prove; returns whether no guest ever ran twice. Source: SAFE-1."""
    proofs = [f"{guest.name}: {proof}" for guest in guests for proof in overlaps_on(guest.disk)]
    if not proofs:
        console.print("\n  The guests' own records on disk show: none of them ever ran twice.")
    for proof in proofs:
        console.print(f"  RAN TWICE: {proof}", style="bold red")
    return not proofs


def _tell_what_next(name: str, asked: str, victim: str, seen: Failover, console: Console) -> None:
    lab = "./dev exec holdfast lab"
    _heading(console, "The lab stays up. Look around:")
    lines = (
        (f"{lab} exec --name {name} {asked} holdfast status --watch", "the cluster"),
        (f"{lab} exec --name {name} {asked} holdfast events", "what happened, and why"),
        (f"{lab} exec --name {name} {asked} holdfast explain role {seen.roles[0]}", "why it is there"),
        (f"{lab} console --name {name} {seen.roles[0]}", "what the guest prints"),
        (f"{lab} power-on --name {name} {victim}", "the node comes back"),
        (f"{lab} down --name {name}", "take all of it down"),
    )
    width = max(len(command) for command, _ in lines)
    for command, what in lines:
        console.print(f"  {command:{width}}  # {what}", soft_wrap=True)


def _heading(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold")


if __name__ == "__main__":
    demo(prog_name="./dev demo")
