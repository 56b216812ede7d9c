"""All witnesses of one machine: one folder, one set of ports and one member per cluster, in one process.

Rule of the file: a folder with an identity is a witness that runs; what is not there does not. Who changes a folder
holds its lock, so that no witness runs while a person has it forget its cluster.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.membership.identity import NodeIdentity, Ports, read_identity
from holdfast.membership.tokens import decode_token
from holdfast.model.errors import Conflict, HoldfastError, NotFound, Refused, Unavailable
from holdfast.model.ids import FaultDomain
from holdfast.node.clock import SystemClock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import open_database
from holdfast.node.joining import Joiner, JoinParams
from holdfast.node.left_behind import set_forgotten_aside
from holdfast.node.residence import forget_cluster
from holdfast.node.witness import Witness
from holdfast.store.records import CLUSTER

log = logging.getLogger(__name__)

STATE: Final = Path("/var/lib/holdfast-witness")
RUN: Final = Path("/run/holdfast-witness")
LOOK_S: Final = 1.0
PORTS_APART: Final = 10
LOCK: Final = "lock"
FORGET: Final = "forget"
"""In a witness's folder: whoever runs it is to let go of it."""
ANSWER_S: Final = 3.0
LET_GO_S: Final = 15.0
LOCK_LOOK_S: Final = 0.1

Serve = Callable[["Instance"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The witness of one cluster: where it lives, and who it is."""

    config: DaemonConfig
    identity: NodeIdentity

    @property
    def folder(self) -> Path:
        """What it keeps."""
        return self.config.state_directory


def config_of(folder: Path) -> DaemonConfig:
    """Where one witness keeps its things; what a restart of the machine empties lies under /run."""
    return DaemonConfig(state_directory=folder, run_directory=RUN / folder.name, log_directory=folder)


def instances(state: Path = STATE) -> tuple[Instance, ...]:
    """The witnesses of this machine, by the name of their folder."""
    folders = sorted(path.parent for path in state.glob("*/identity.json"))
    return tuple(Instance(config=config_of(one), identity=read_identity(one / "identity.json")) for one in folders)


async def join(
    token: str,
    *,
    name: str,
    fault_domains: tuple[str, ...] = (),
    state: Path = STATE,
    let_go_s: float = LET_GO_S,
) -> NodeIdentity:
    """Become a witness of the cluster that issued the token. Raises: Conflict, Unavailable, and what joining raises.

    A witness that left just now may still be taking away what it kept; its folder is not written to until it is done.

    fault_domains   what this machine depends on.
    let_go_s        what the former witness has for taking away.
    """
    folder = state / decode_token(token).authority_fingerprint[:16]
    _require_no_witness(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with _hold(folder, let_go_s, f"witness {name}"):
        _require_no_witness(folder)
        (folder / FORGET).unlink(missing_ok=True)
        joiner = Joiner(config_of(folder), SystemClock(), is_witness=True)
        domains = tuple(map(FaultDomain, fault_domains))
        params = JoinParams(token=token, node=name, ports=free_ports(instances(state)), fault_domains=domains)
        return await joiner.join(params, log.info)


def _require_no_witness(folder: Path) -> None:
    """Raises: Conflict."""
    if (folder / "identity.json").exists():
        raise Conflict(
            "this machine is a witness of that cluster already",
            hint="holdfast witness list shows it; if it was removed from it while it was off: "
            "holdfast witness forget, with the cluster's name, and join again",
        )


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
    await serve_all(state, _serve, stop=stop)


async def serve_all(state: Path, serve: Serve, *, stop: asyncio.Event) -> None:
    """Have each witness of this machine served that nobody wants to be forgotten, until `stop`."""
    running: dict[Path, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            running = {folder: task for folder, task in running.items() if not task.done()}
            for folder in sorted(running):
                if (folder / FORGET).exists() and not running[folder].cancelling():
                    running[folder].cancel()
            for one in instances(state):
                if one.folder not in running:
                    running[one.folder] = tasks.create_task(_alone(one.folder, serve))
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                continue
        for task in running.values():
            task.cancel()


async def _alone(folder: Path, serve: Serve) -> None:
    """Serve what is in a folder now, unless somebody else holds it."""
    with _held(folder) as is_held:
        found = [one for one in instances(folder.parent) if one.folder == folder]
        if is_held and found and not (folder / FORGET).exists():
            await serve(found[0])


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder, if nobody else does; the end of a process lets go of it. Source: flock(2)."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


async def _serve(one: Instance) -> None:
    """Be this witness; forget the cluster that removed it."""
    one.config.run_directory.mkdir(parents=True, exist_ok=True)
    log.info("witness %s of cluster %s", one.identity.node, one.identity.cluster_name)
    await Witness(one.config, one.identity, SystemClock()).run()
    log.warning("witness %s was removed from cluster %s", one.identity.node, one.identity.cluster_name)
    await forget_cluster(one.config)


async def forget(cluster: str, *, state: Path = STATE, let_go_s: float = LET_GO_S) -> dict[str, str]:
    """Be a witness of this cluster no longer, on a person's word; may be repeated after it was broken off anywhere.

    It needs no database: none answers the certificate of a witness that was evicted while it was down. What there was
    is kept, and its member never votes again: the data is moved before the identity goes, as of a node. Source: SAFE-4.

    cluster    its name, or that of its folder.
    let_go_s   what the program that runs it has for letting go of it. Raises: NotFound, Conflict, Refused, Unavailable.
    """
    one = named(cluster, state)
    await _require_silence(one)
    async with _let_go(one, let_go_s):
        kept = await set_forgotten_aside(one.config, one.identity.node_id)
    return {"node": one.identity.node, "cluster": one.identity.cluster_name, "kept": str(kept)}


def named(cluster: str, state: Path = STATE) -> Instance:
    """The witness of the cluster of this name, or in the folder of this name. Raises: NotFound, Conflict."""
    known = instances(state)
    found = [one for one in known if cluster in (one.identity.cluster_name, one.folder.name)]
    if not found:
        names = ", ".join(one.identity.cluster_name for one in known) or "none"
        raise NotFound(f"this machine is no witness of cluster {cluster}; its clusters: {names}")
    if len(found) > 1:
        folders = " or ".join(one.folder.name for one in found)
        raise Conflict(f"this machine is a witness of {len(found)} clusters called {cluster}", hint=f"say {folders}")
    return found[0]


async def _require_silence(one: Instance) -> None:
    """Raises: Refused, if the cluster's database still answers this witness."""
    database = open_database(one.config, one.identity)
    try:
        await database.store.get(CLUSTER, timeout_s=ANSWER_S)
    except HoldfastError:
        return
    finally:
        await database.store.close()
    raise Refused(
        f"cluster {one.identity.cluster_name} still has this machine as its witness {one.identity.node}; "
        "nothing was done",
        hint=f"on a node of it: holdfast witness leave {one.identity.node}",
    )


@asynccontextmanager
async def _let_go(one: Instance, within_s: float) -> AsyncIterator[None]:
    """Hold the folder of a witness that is to be forgotten, once nobody runs it any more. Raises: Unavailable."""
    mark = one.folder / FORGET
    mark.touch()
    try:
        async with _hold(one.folder, within_s, f"witness {one.identity.node}"):
            yield
    finally:
        mark.unlink(missing_ok=True)


@asynccontextmanager
async def _hold(folder: Path, within_s: float, what: str) -> AsyncIterator[None]:
    """Hold a folder as soon as nobody else does. Raises: Unavailable."""
    until = asyncio.get_running_loop().time() + within_s
    while True:
        with _held(folder) as is_held:
            if is_held:
                yield
                return
        if asyncio.get_running_loop().time() > until:
            raise Unavailable(
                f"the program that runs {what} does not let go of it; nothing was done",
                hint="stop holdfast-witness, repeat this, start it",
            )
        await asyncio.sleep(LOCK_LOOK_S)
