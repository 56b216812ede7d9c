"""Many seeds on all cores.

Rule of the file: one process per core, one seed at a time in each; the result of a seed does not depend on which.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.sim.run import Order, run

RARELY: Final = (200_000, 1000, 1000)
"""Thresholds of the garbage collector. By default it takes a sixth of the time, and finds next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is kept of a run: enough to count it and to run it again."""

    order: Order
    failures: tuple[str, ...]
    virtual_s: float
    digest: str


def run_all(orders: Iterable[Order], *, jobs: int | None = None) -> Iterator[Result]:
    """Run all orders and yield each result as soon as it is there. `jobs` None: one per core."""
    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1:
        yield from map(run_one, orders)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _collect_rarely) as pool:
        yield from pool.imap_unordered(_run_and_collect, orders)


def _collect_rarely() -> None:
    """Look at what is there at the beginning of a process no more, and at the rest after each seed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)


def _run_and_collect(order: Order) -> Result:
    result = run_one(order)
    gc.collect()
    return result


def run_one(order: Order) -> Result:
    """Run one order and keep its result."""
    outcome = run(order)
    return Result(order=order, failures=outcome.failures, virtual_s=outcome.virtual_s, digest=outcome.digest)
