"""What must hold, judged by the truth alone.

Rule of the file: the safety checkers know nothing of the code under test: no record, no state, no event of it, only
which guest's process existed where and when. Progress also reads what the cluster says of itself, to compare it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, TypeVar

from holdfast.model.ids import RoleName
from holdfast.model.nodes import NodeReport
from holdfast.model.roles import Ownership, Phase, Wanted
from holdfast.sim.truth import GuestRun, Truth
from holdfast.sim.world import World
from holdfast.store.records import OWNERSHIPS, REPORTS, SESSIONS, decode

T = TypeVar("T")
FOR_EVER: Final = float("inf")


def runs_once(truth: Truth, *, but: Collection[str] = ()) -> Iterator[str]:
    """SAFE-1, SAFE-2: a guest's process begins on a node only when it exists on no other any more.

    but   guests, by uuid, that write to shared disks only: the disks are their judges.
    """
    earlier: dict[str, list[GuestRun]] = {}
    for run in (run for run in truth.runs if run.uuid not in but):
        for other in earlier.setdefault(run.uuid, []):
            until = FOR_EVER if other.ended is None else other.ended
            if other.node != run.node and until > run.began:
                both_s = min(until, FOR_EVER if run.ended is None else run.ended, truth.now()) - run.began
                yield (
                    f"SAFE-1: {truth.name_of(run.uuid)} began on {run.node} at {run.began:.3f} s "
                    f"while it ran on {other.node}: on both for {both_s:.3f} s"
                )
        earlier[run.uuid].append(run)


def disks_agree(world: World) -> Iterator[str]:
    """SAFE-1: once a run has written its first record, nothing of an earlier run lands on that disk."""
    for uuid, records in world.storage.disks.items():
        newest = records[0].run
        for record in records:
            if record.run.number < newest.number:
                late = f"a write of {world.truth.name_of(uuid)} on {record.run.node} landed at {record.landed:.3f} s"
                yield (f"SAFE-1: {late} after {newest.node} began to write, which started it at {newest.began:.3f} s")
            newest = max(newest, record.run, key=lambda run: run.number)


def harmless_stays_harmless(truth: Truth) -> Iterator[str]:
    """SAFE-6: when nothing went wrong but the database, no guest ended."""
    for run in truth.runs:
        if run.ended is not None:
            yield f"SAFE-6: {truth.name_of(run.uuid)} ended on {run.node} at {run.ended:.3f} s: {run.ended_by}"


def nothing_ends_by_itself(world: World) -> Iterator[str]:
    """No process of the cluster ends by an error of its own."""
    for accident in world.truth.accidents:
        yield f"ERROR: at {accident.at:.3f} s {accident.text}"
    for error in world.loop.errors:
        yield f"ERROR: {error}"


def is_steady(before: int, truth: Truth) -> Iterator[str]:
    """SAFE-5: once everything is well, nothing begins or ends any more. `before`: the entries there were then."""
    for entry in truth.entries[before:]:
        if entry.source == "guest" or entry.text.startswith("role-"):
            yield f"flaps: {entry}"


def not_yet_well(world: World) -> Iterator[str]:
    """SAFE-5: what is missing until every wanted role runs exactly once and nothing is left standing."""
    owners = {o.role: o for o in _records(world, OWNERSHIPS, Ownership)}
    for role in world.roles():
        where = [run.node for run in world.truth.living() if run.uuid == role.uuid]
        ownership = owners.get(role.name)
        said = f"{ownership.phase} on {ownership.owner}" if ownership is not None else "never owned"
        if role.wanted is Wanted.ONLINE and len(where) != 1:
            yield f"{role.name} runs on {', '.join(where) or 'no node'} (record: {said})"
        elif role.wanted is Wanted.OFFLINE:
            yield f"{role.name} is wanted offline"
        elif ownership is None or (ownership.phase, ownership.owner) != (Phase.ONLINE, where[0]):
            yield f"{role.name} runs on {where[0]}, but the record says {said}"
    sessions = {item.key.removeprefix(SESSIONS) for item in world.database.listing(SESSIONS).items}
    yield from (f"{name} has no session" for name in world.machines if name not in sessions)
    for report in _records(world, REPORTS, NodeReport):
        yield from (f"condition {c.code} of {c.subject}: {c.text}" for c in report.conditions)
        if report.not_ready is not None:
            yield f"{report.node} is not ready: {report.not_ready}"


def needing_a_person(world: World) -> Iterator[RoleName]:
    """The roles that failed so often that only a person may start them again, and that do not run."""
    living = {run.uuid for run in world.truth.living()}
    owned = {o.role: o for o in _records(world, OWNERSHIPS, Ownership)}
    for role in world.roles():
        known = owned.get(role.name)
        failed = known is not None and (known.failed_on or len(known.failovers) > role.failover_limit)
        if failed and role.uuid not in living:
            yield role.name


def _records(world: World, prefix: str, kind: type[T]) -> list[T]:
    return [decode(kind, item.key, item.value) for item in world.database.listing(prefix).items]
