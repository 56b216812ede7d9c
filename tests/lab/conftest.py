"""The labs of the end-to-end tests: brought up when first needed, one at a time, taken down at the end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from _pytest.runner import runtestprotocol
from tests.lab.cluster_under_test import ClusterUnderTest, RuleBroken, last_words
from tests.lab.stillness import Stillness

from holdfast.lab.construction import LabOptions
from holdfast.lab.errors import LabBroken
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab
from holdfast.lab.luns import StorageSpec
from holdfast.lab.provision import forming, services
from holdfast.model.errors import HoldfastError

WATCHDOG_TIMEOUT_S = 3.0
ACCOUNT_S = 20.0
PREFIX = os.environ.get("HOLDFAST_TEST_LAB", "e2e")
"""Names the labs; another one lets a second run of these tests go on beside the first."""
BREAKS_A_RULE = pytest.StashKey[bool]()
PANICKED = pytest.StashKey[str]()

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a lab of these tests consists of."""

    name: str
    nodes: int
    has_fence: bool = True
    has_watchdog: bool = True
    luns: int = 0
    """How many shared disks it has."""
    has_heartbeat: bool = False
    """Whether it has one more, for the nodes' storage heartbeats."""
    has_witness: bool = False
    is_witness_aside: bool = False
    """Whether the witness is none yet: only its machine is there."""
    is_formed: bool = True
    """Whether all nodes are in one cluster, or none in any."""


THREE = Shape(name="three", nodes=3)
FIVE = Shape(name="five", nodes=5, has_witness=True, is_witness_aside=True)
TWO = Shape(name="two", nodes=2, has_witness=True)
UNGUARDED = Shape(name="unguarded", nodes=3, has_watchdog=False)
ALONE = Shape(name="alone", nodes=2, is_formed=False)
DISKS = Shape(name="disks", nodes=3, has_fence=False, has_watchdog=False, luns=2)
BEATING = Shape(name="beating", nodes=3, has_fence=False, has_watchdog=False, luns=1, has_heartbeat=True)
SHAPES = {
    "three": THREE,
    "unguarded": UNGUARDED,
    "five": FIVE,
    "door": ALONE,
    "disks": DISKS,
    "beating": BEATING,
    "two": TWO,
}


class Labs:
    """At most one lab is up: two cores do not carry more."""

    def __init__(self) -> None:
        self._up: tuple[Shape, Lab, AsyncExitStack] | None = None

    async def get(self, shape: Shape) -> Lab:
        """Return the lab of this shape, its cluster formed if it is to be."""
        if self._up is not None and self._up[0] == shape:
            return self._up[1]
        await self.close()
        async with AsyncExitStack() as stack:
            lab = Lab(f"{PREFIX}-{shape.name}")
            stack.enter_context(_alone(lab))
            await lab.down()
            stack.push_async_callback(lab.down)
            options = LabOptions(
                nodes=shape.nodes,
                services=services(has_watchdog=shape.has_watchdog, watchdog_timeout_s=WATCHDOG_TIMEOUT_S),
                has_fence=shape.has_fence,
                has_watchdog=shape.has_watchdog,
                watchdog_timeout_s=WATCHDOG_TIMEOUT_S,
                storage=StorageSpec(luns=shape.luns, has_heartbeat=shape.has_heartbeat) if shape.luns else None,
                has_witness=shape.has_witness,
            )
            form = forming({"quarantine_losses": 1000}, witness=not shape.is_witness_aside)
            await lab.up(options, provision=form if shape.is_formed else None)
            self._up = shape, lab, stack.pop_all()
        return lab

    async def close(self) -> None:
        """Take the lab down that is up."""
        if self._up is not None:
            up, self._up = self._up, None
            await up[2].aclose()


LABS = pytest.StashKey[Labs]()


@contextmanager
def _alone(lab: Lab) -> Iterator[None]:
    """Hold the lab's name against another run of these tests, which would take this lab down."""
    lab.layout.base.mkdir(parents=True, exist_ok=True)
    path = lab.layout.base / f"{lab.layout.name}.tests"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another run of these tests uses the lab {lab.layout.name}"
            raise LabBroken(message, hint="wait for it, or name other labs: HOLDFAST_TEST_LAB=mine") from error
        yield
        path.unlink()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of one lab after those of another, so that each lab is brought up once."""
    order = list(SHAPES)
    items.sort(key=lambda item: max((order.index(name) for name in _fixtures(item) if name in SHAPES), default=-1))


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test once more, in a new lab, if it failed while the machine was disturbed or the emulator failed a guest.

    Never if a guest ran twice or lost its memory: nothing that disturbs a machine excuses that.
    """
    if Path(__file__).parent not in item.path.parents:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    with Stillness() as stillness:
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    panicked = item.stash.get(PANICKED, "")
    is_excused = stillness.is_disturbing or panicked
    if failed and is_excused and not item.stash.get(BREAKS_A_RULE, False):
        print(f"\n{item.nodeid} is run once more: {panicked or stillness}\n{failed[0].longreprtext}")
        print(*(f"{title}\n{text}" for title, text in failed[0].sections), sep="\n")
        if LABS in item.session.stash:
            _run(item.session.stash[LABS].close())
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failed test what its cluster was like then."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(RuleBroken):
        item.stash[BREAKS_A_RULE] = True
    if call.when == "call" and report.failed:
        used = [getattr(value, "cluster", value) for value in getattr(item, "funcargs", {}).values()]
        clusters = [one for one in used if isinstance(one, ClusterUnderTest)]
        alone = [one for one in used if isinstance(one, Guest)]
        guests = [*alone, *(guest for cluster in clusters for guest in cluster.guests)]
        panicked = [guest.name for guest in guests if guest.has_panicked]
        item.stash[PANICKED] = f"the emulator let {', '.join(panicked)} panic" if panicked else ""
        said = f"failed at {time.time():.3f}"
        report.sections += [(guest.name, "\n".join([*last_words(guest), said])) for guest in alone]
        report.sections += [("the cluster", _run(_account(cluster))) for cluster in clusters]
    return report


def _run(work: Coroutine[None, None, A]) -> A:
    """Do something while the event loop of a test stands still, and leave that one as it is."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _account(cluster: ClusterUnderTest) -> str:
    try:
        async with asyncio.timeout(ACCOUNT_S):
            return await cluster.account()
    except (HoldfastError, OSError, ValueError) as error:
        return f"no account: {error!r}"


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    """The labs of this run."""
    keeper = request.session.stash[LABS] = Labs()
    yield keeper
    asyncio.run(keeper.close())


@pytest.fixture
async def three(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of three nodes with fence devices and watchdogs."""
    async with ClusterUnderTest(await labs.get(THREE)).in_order() as cluster:
        yield cluster


@pytest.fixture
async def unguarded(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of three nodes with fence devices and no watchdogs."""
    async with ClusterUnderTest(await labs.get(UNGUARDED)).in_order() as cluster:
        yield cluster


@pytest.fixture
async def five(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of five nodes with fence devices and watchdogs."""
    async with ClusterUnderTest(await labs.get(FIVE)).in_order() as cluster:
        yield cluster


@pytest.fixture
async def two(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of two nodes with fence devices and watchdogs, and a witness."""
    async with ClusterUnderTest(await labs.get(TWO)).in_order() as cluster:
        await cluster.wait_votes(3)
        yield cluster


@pytest.fixture
async def disks(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of three nodes with shared disks, and nothing but their reservations to fence a node."""
    async with ClusterUnderTest(await labs.get(DISKS)).in_order() as cluster:
        yield cluster


@pytest.fixture
async def beating(labs: Labs) -> AsyncGenerator[ClusterUnderTest, None]:
    """A healthy cluster of three nodes with a shared disk and a heartbeat disk, fenced by reservations alone."""
    async with ClusterUnderTest(await labs.get(BEATING)).in_order() as cluster:
        yield cluster
