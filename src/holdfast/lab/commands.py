"""``holdfast lab``: the datacenter from the command line.

Rule of the file: each command is one call of ``Lab`` and one line that says what happened; progress goes to stderr.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from holdfast.lab import provision
from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import LabBroken
from holdfast.lab.fence_device import FenceFault
from holdfast.lab.lab import Lab
from holdfast.lab.layout import STORAGE_NODE, WITNESS, Network
from holdfast.lab.luns import LUN_BYTES, StorageSpec
from holdfast.lab.machine import Power
from holdfast.lab.spec import LIBVIRTD
from holdfast.lab.status import LabStatus, NodeStatus

_NETWORKS = click.Choice([*map(str, Network), "all"])


def _say(line: str) -> None:
    click.echo(line, err=True)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  holdfast lab {line}" for line in lines)


def _on_lab(action: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Give a command its option --name, and run it on that lab."""

    @click.option("--name", default="lab", show_default=True, envvar="HOLDFAST_LAB", help="Which lab.")
    @wraps(action)
    def command(*, name: str, **options: Any) -> None:
        asyncio.run(action(Lab(name), **options))

    return command


@click.group(
    epilog=_examples("up", "power-off node2", "console web1", "exec node1 virsh list", "down"),
)
def group() -> None:
    """A whole cluster on this one machine, to try things."""


@group.command(
    epilog=_examples(
        "up", "up --nodes 5 --name big", "up --no-fence", "up --nodes 2 --witness", "up --storage-luns 4", "up --bare"
    )
)
@click.option("--nodes", default=3, show_default=True, help="How many nodes (1 to 16).")
@click.option("--fence/--no-fence", default=True, help="Whether the nodes have fence devices.")
@click.option("--watchdog/--no-watchdog", default=True, help="Whether the nodes have hardware watchdogs.")
@click.option("--watchdog-timeout-s", default=3.0, show_default=True, help="How long a watchdog waits for a pet.")
@click.option(
    "--storage-luns",
    default=0,
    help="How many LUNs for guests a storage node serves (1 to 16), and one for heartbeats; 0 for none.",
)
@click.option("--lun-size-mib", default=LUN_BYTES >> 20, show_default=True, help="Size of each LUN.")
@click.option("--witness", is_flag=True, help="One more machine, which votes and runs no guests.")
@click.option("--storage-chap", is_flag=True, help="The storage node demands CHAP.")
@click.option("--bare", is_flag=True, help="Machines with libvirt only, no cluster on them.")
@_on_lab
async def up(
    lab: Lab,
    *,
    nodes: int,
    fence: bool,
    watchdog: bool,
    watchdog_timeout_s: float,
    storage_luns: int,
    lun_size_mib: int,
    witness: bool,
    storage_chap: bool,
    bare: bool,
) -> None:
    """Bring a lab up and form a cluster on it; complete one that is there already."""
    cluster = provision.services(has_watchdog=watchdog, watchdog_timeout_s=watchdog_timeout_s)
    options = LabOptions(
        nodes=nodes,
        has_fence=fence,
        has_watchdog=watchdog,
        watchdog_timeout_s=watchdog_timeout_s,
        services=(LIBVIRTD,) if bare else cluster,
        storage=StorageSpec(luns=storage_luns, lun_bytes=lun_size_mib << 20, has_heartbeat=True, has_chap=storage_chap)
        if storage_luns
        else None,
        has_witness=witness,
    )
    status = await lab.up(options, provision=None if bare else provision.forming(fence=fence), progress=_say)
    _show(status)


@group.command(epilog=_examples("down", "down --name big"))
@_on_lab
async def down(lab: Lab) -> None:
    """Remove a lab and everything it made, also after a crash."""
    was_there = await lab.down(progress=_say)
    click.echo(f"lab {lab.layout.name} is gone" if was_there else f"there was no lab {lab.layout.name}")


@group.command(epilog=_examples("status", "status --json"))
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@_on_lab
async def status(lab: Lab, *, as_json: bool) -> None:
    """Show the nodes, their power, services, cables and devices."""
    answer = await lab.status()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(answer), indent=2))
    else:
        _show(answer)


@group.command("power-off", epilog=_examples("power-off node2"))
@click.argument("node")
@_on_lab
async def power_off(lab: Lab, node: str) -> None:
    """Pull NODE's plug: everything in it is gone in an instant, its disk stays."""
    await lab.power_off(node)
    click.echo(f"{node} is off")


@group.command("power-on", epilog=_examples("power-on node2"))
@click.argument("node")
@_on_lab
async def power_on(lab: Lab, node: str) -> None:
    """Boot NODE."""
    changed = await lab.power_on(node)
    click.echo(f"{node} is booting" if changed else f"{node} was on already")


@group.command(epilog=_examples("freeze node2"))
@click.argument("node")
@_on_lab
async def freeze(lab: Lab, node: str) -> None:
    """Hang NODE: everything in it stands still until `thaw`."""
    await lab.freeze(node)
    click.echo(f"{node} stands still")


@group.command(epilog=_examples("thaw node2"))
@click.argument("node")
@_on_lab
async def thaw(lab: Lab, node: str) -> None:
    """Let a frozen NODE go on as if nothing had happened."""
    await lab.thaw(node)
    click.echo(f"{node} goes on")


@group.command(epilog=_examples("cut node2 cluster-a", "cut node2 all"))
@click.argument("node")
@click.argument("network", type=_NETWORKS, default="all")
@_on_lab
async def cut(lab: Lab, node: str, network: str) -> None:
    """Cut NODE's cable to a network, or all of them."""
    await lab.cut(node, _networks(network))
    click.echo(f"{node} is cut off {network}")


@group.command(epilog=_examples("heal node2 cluster-a", "heal node2"))
@click.argument("node")
@click.argument("network", type=_NETWORKS, default="all")
@_on_lab
async def heal(lab: Lab, node: str, network: str) -> None:
    """Mend NODE's cable to a network, or all of them."""
    await lab.heal(node, _networks(network))
    click.echo(f"{node} is joined to {network}")


@group.command("fence-fault", epilog=_examples("fence-fault node2 hang", "fence-fault node2 none"))
@click.argument("node")
@click.argument("fault", type=click.Choice([str(fault) for fault in FenceFault]))
@_on_lab
async def fence_fault(lab: Lab, node: str, fault: str) -> None:
    """Make NODE's fence device fail, hang or know nothing; `none` repairs it."""
    await lab.fence_fault(node, FenceFault(fault))
    click.echo(f"the fence device of {node} has the fault: {fault}")


@group.command(epilog=_examples("service kill node1 holdfastd", "service stop node1 libvirtd"))
@click.argument("action", type=click.Choice(["start", "stop", "kill"]))
@click.argument("node")
@click.argument("service")
@_on_lab
async def service(lab: Lab, action: str, node: str, service: str) -> None:
    """Start, stop or kill one SERVICE of NODE; a killed one is restarted, as by systemd."""
    act = {"start": lab.service_start, "stop": lab.service_stop, "kill": lab.service_kill}[action]
    told = await act(node, service)
    click.echo(f"{told.name} on {node}: {told.state}")


@group.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=_examples("exec node1 virsh list", "exec node1 ip -br addr", "exec --name big node4 ps ax"),
)
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_on_lab
async def execute(lab: Lab, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside NODE, on this terminal."""
    _become(await lab.joining_command(node, *command))


@group.command(epilog=_examples("console node1", "console web1"))
@click.argument("target")
@_on_lab
async def console(lab: Lab, target: str) -> None:
    """Open a shell in a node, or follow what a guest prints on its serial console (Ctrl-C ends it)."""
    if target in lab.spec.machine_names:
        _become(await lab.joining_command(target, "/bin/bash", "-i"))
    log = lab.layout.shared / f"{target}.serial.log"
    if not log.exists():
        known = sorted(path.name.removesuffix(".serial.log") for path in lab.layout.shared.glob("*.serial.log"))
        raise LabBroken(
            f"{target!r} is no node and no guest that ever ran in lab {lab.layout.name}",
            hint=f"nodes: {', '.join(lab.spec.machine_names)}; guests: {', '.join(known) or 'none'}",
        )
    _become(["tail", "-n", "20", "-F", str(log)])


def _become(command: list[str]) -> NoReturn:
    os.execvp(command[0], command)  # noqa: S606 - the terminal and the exit code are then the command's own


def _networks(name: str) -> list[Network]:
    return list(Network) if name == "all" else [Network(name)]


def _show(answer: LabStatus) -> None:
    table = Table(title=f"lab {answer.name}", title_justify="left", box=None, pad_edge=False)
    for heading in ("node", "power", "services", "devices", "cut"):
        table.add_column(heading)
    for node in answer.nodes:
        table.add_row(node.name, _power(node), _services(node), _devices(node), ", ".join(node.cut) or "-")
    Console(markup=False, highlight=False).print(table)


def _power(node: NodeStatus) -> str:
    return f"off ({node.off_reason})" if node.power is Power.OFF else str(node.power)


def _services(node: NodeStatus) -> str:
    if node.services is None:
        return "-" if node.power is Power.OFF else "no answer"
    return ", ".join(one.name if one.state == "running" else f"{one.name} {one.state}" for one in node.services)


def _devices(node: NodeStatus) -> str:
    if node.name in (STORAGE_NODE, WITNESS):
        return "-"
    fence = {None: "no fence", FenceFault.NONE: "fence"}.get(node.fence_fault, f"fence ({node.fence_fault})")
    armed = f"watchdog {node.watchdog_remaining_s:.1f} s" if node.watchdog_remaining_s is not None else "watchdog idle"
    return f"{fence}, {armed}"
