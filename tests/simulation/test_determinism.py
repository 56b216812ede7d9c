"""The same seed gives the same run: in one process, in another, and under any hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast.sim.run import Order, run
from holdfast.sim.schedule import Profile

PROGRAM = """
from holdfast.sim.run import Order, run
from holdfast.sim.schedule import Profile
outcome = run(Order(seed={seed}, profile=Profile.BRUTAL, minutes=0.5, votes={votes}))
print(outcome.digest, outcome.steps)
"""


def in_another_process(seed: int, hash_seed: str, *, votes: bool) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM.format(seed=seed, votes=votes)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(("seed", "votes"), [(2, False), (3, False), (7, True)])
def test_a_seed_gives_the_same_run_everywhere(seed: int, votes: bool) -> None:
    order = Order(seed=seed, profile=Profile.BRUTAL, minutes=0.5, votes=votes)
    here = [f"{outcome.digest} {outcome.steps}" for outcome in (run(order), run(order))]
    there = [in_another_process(seed, hash_seed, votes=votes) for hash_seed in ("0", "4711")]
    assert len({*here, *there}) == 1


def test_another_seed_gives_another_run() -> None:
    assert run(Order(seed=2, minutes=0.2)).digest != run(Order(seed=3, minutes=0.2)).digest
