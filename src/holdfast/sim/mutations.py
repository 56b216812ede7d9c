"""The mutation run: break one thing at a time, and see whether the right checker notices within so many seeds.

Rule of the file: it counts seeds and compares rules; what is broken is told in `breakages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holdfast.sim.breakages import MUTATIONS
from holdfast.sim.campaign import Result, run_all
from holdfast.sim.mutation import BreakageKind
from holdfast.sim.run import Order
from holdfast.sim.schedule import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """What became of one breakage.

    tried    seeds that were run.
    caught   the first of them that broke one of the rules that it must break; None: it survived.
    failures   what was said then, or everything that other checkers said.
    """

    kind: BreakageKind
    tried: int
    caught: int | None
    failures: tuple[str, ...]

    @property
    def replay(self) -> str:
        """The command that shows the catch."""
        return _order(self.kind, self.caught or 1).replay()


def catch(kind: BreakageKind, *, seeds: int | None = None, jobs: int | None = None) -> Catch:
    """Run the seeds of a breakage until it is caught. `seeds` None: as many as it is given."""
    trial = MUTATIONS[kind].trial
    numbers = range(1, (trial.seeds if seeds is None else seeds) + 1)
    tried, others = 0, list[str]()
    for result in _in_order(run_all((_order(kind, number) for number in numbers), jobs=jobs)):
        tried += 1
        told = tuple(failure for failure in result.failures if failure.startswith(trial.rules))
        if told:
            return Catch(kind=kind, tried=tried, caught=result.order.seed, failures=told)
        others += result.failures
    return Catch(kind=kind, tried=tried, caught=None, failures=tuple(others[:10]))


def _in_order(results: Iterable[Result]) -> Iterator[Result]:
    """By seed, so that the answer does not depend on which process was faster."""
    waiting: dict[int, Result] = {}
    due = 1
    for result in results:
        waiting[result.order.seed] = result
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def _order(kind: BreakageKind, seed: int) -> Order:
    trial = MUTATIONS[kind].trial
    return Order(
        seed=seed, nodes=trial.nodes, profile=trial.profile, kinds=trial.faults, disks=trial.disks, broken=kind
    )


def table() -> str:
    """The list as a table for the documentation."""
    lines = ["| breakage | what is broken | caught by | under | within |", "|---|---|---|---|---|"]
    for kind, mutation in MUTATIONS.items():
        trial = mutation.trial
        nodes = "" if trial.nodes == 3 else f" of {trial.nodes} nodes"
        profile = "" if trial.profile is Profile.BRUTAL else f", `{trial.profile}`"
        disks = f", `--disks {trial.disks}`" if trial.disks else ""
        rules = " or ".join(trial.rules)
        under = ", ".join(trial.faults)
        lines.append(f"| `{kind}` | {mutation.what} | {rules} | {under} | {trial.seeds} seeds{nodes}{profile}{disks} |")
    return "\n".join(lines) + "\n"
