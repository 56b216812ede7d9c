"""All witnesses of one machine: one folder, one set of ports and one member per cluster, in one process.

Rule of the file: a folder with an identity is a witness that runs; what is not there does not.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.membership.identity import NodeIdentity, Ports, read_identity
from holdfast.membership.tokens import decode_token
from holdfast.model.errors import Conflict
from holdfast.node.clock import SystemClock
from holdfast.node.config import DaemonConfig
from holdfast.node.joining import Joiner, JoinParams
from holdfast.node.residence import forget_cluster
from holdfast.node.witness import Witness

log = logging.getLogger(__name__)

STATE: Final = Path("/var/lib/holdfast-witness")
RUN: Final = Path("/run/holdfast-witness")
LOOK_S: Final = 1.0
PORTS_APART: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The witness of one cluster: where it lives, and who it is."""

    config: DaemonConfig
    identity: NodeIdentity


def config_of(folder: Path) -> DaemonConfig:
    """Where one witness keeps its things; what a restart of the machine empties lies under /run."""
    return DaemonConfig(state_directory=folder, run_directory=RUN / folder.name, log_directory=folder)


def instances(state: Path = STATE) -> tuple[Instance, ...]:
    """The witnesses of this machine, by the name of their folder."""
    folders = sorted(path.parent for path in state.glob("*/identity.json"))
    return tuple(Instance(config=config_of(one), identity=read_identity(one / "identity.json")) for one in folders)


async def join(token: str, *, name: str, state: Path = STATE) -> NodeIdentity:
    """Become a witness of the cluster that issued the token. Raises: Conflict, and what joining raises."""
    key = decode_token(token).authority_fingerprint[:16]
    folder = state / key
    if (folder / "identity.json").exists():
        raise Conflict(
            "this machine is a witness of that cluster already",
            hint="holdfast witness list shows it; if it was removed from it while it was off: "
            f"stop holdfast-witness, remove {folder}, start it, and join again",
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    joiner = Joiner(config_of(folder), SystemClock(), is_witness=True)
    return await joiner.join(JoinParams(token=token, node=name, ports=free_ports(instances(state))), log.info)


def free_ports(taken: tuple[Instance, ...]) -> Ports:
    """The usual ports, or the same so many tens higher as no other witness here has them."""
    used = {one.identity.ports for one in taken}
    usual, step = Ports(), 0
    while True:
        moved = Ports(**{name: port + step for name, port in usual.model_dump().items()})
        if moved not in used:
            return moved
        step += PORTS_APART


async def run(state: Path = STATE) -> None:
    """Run every witness of this machine, also those that join later, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running: dict[Path, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            running = {folder: task for folder, task in running.items() if not task.done()}
            for one in instances(state):
                folder = one.config.state_directory
                if folder not in running:
                    one.config.run_directory.mkdir(parents=True, exist_ok=True)
                    log.info("witness %s of cluster %s", one.identity.node, one.identity.cluster_name)
                    running[folder] = tasks.create_task(_serve(one))
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                continue
        for task in running.values():
            task.cancel()


async def _serve(one: Instance) -> None:
    """Be this witness; forget the cluster that removed it."""
    await Witness(one.config, one.identity, SystemClock()).run()
    log.warning("witness %s was removed from cluster %s", one.identity.node, one.identity.cluster_name)
    await forget_cluster(one.config)
