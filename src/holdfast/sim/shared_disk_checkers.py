"""What must hold of shared disks, judged by what reached them and by the history of the database.

Rule of the file: the medium is the witness. A guest that still exists somewhere is no harm as long as the target
refuses what it writes, so nothing here asks where processes are. Source: SAFE-1.

A target that forgets lets everybody write whom it had expelled, until the guests there are ended: a known limit
(docs/safety.md). What such an incarnation writes then is no news; what one writes that was registered then is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import Final, TypeVar

from holdfast.model.disks import reservation_key
from holdfast.model.ids import DiskName, Incarnation, NodeName
from holdfast.model.nodes import Proof, ProofKind, Verdict
from holdfast.model.roles import Ownership, Phase
from holdfast.sim.history import Commit, Records
from holdfast.sim.shared_disks import CLUSTER_ID, Landing, SharedDisks
from holdfast.sim.truth import GuestRun, Truth
from holdfast.sim.world import World
from holdfast.store.port import KeyValue
from holdfast.store.records import OWNERSHIPS, PROOFS, SESSIONS, VERDICTS, decode

T = TypeVar("T")
LOOK_S: Final = 0.25
GONE_WITHIN_S: Final = 4.0
"""A disk is looked at twice a second; a time-out of a request that was under way comes before it."""
BEGUN: Final = frozenset(Phase) - {Phase.VACANT, Phase.ASSIGNED}


def shared_disks_agree(disks: SharedDisks, truth: Truth) -> Iterator[str]:
    """SAFE-1: once a run has written to a disk, nothing of an earlier run lands there."""
    newest: dict[tuple[DiskName, int], GuestRun] = {}
    told: set[tuple[int, DiskName]] = set()
    for landing in disks.landed:
        if _was_let_in_again(landing, disks):
            continue
        run, latest = landing.run, newest.setdefault((landing.disk, landing.block), landing.run)
        if run.number > latest.number:
            newest[landing.disk, landing.block] = run
        elif run.number < latest.number and (run.number, landing.disk) not in told:
            told.add((run.number, landing.disk))
            yield (
                f"SAFE-1: a write of {truth.name_of(run.uuid)} on {run.node} landed on {landing.disk} at "
                f"{landing.at:.3f} s, after {latest.node} had written, which started it at {latest.began:.3f} s"
            )


def proofs_by_reservation_hold(history: Sequence[Commit], disks: SharedDisks) -> Iterator[str]:
    """SAFE-2: nothing of an incarnation lands on a disk that it was proven to be kept off before."""
    proven: dict[tuple[str, DiskName], float] = {}
    for commit in history:
        for proof in _written(commit, PROOFS, Proof):
            for name in proof.disks:
                proven.setdefault((proof.incarnation, name), commit.at)
    for landing in disks.landed:
        since = proven.get((landing.run.incarnation, landing.disk))
        if since is not None and landing.at > since and not _was_let_in_again(landing, disks):
            yield (
                f"SAFE-2: {landing.run.node} was proven to be kept off {landing.disk} at {since:.3f} s, "
                f"yet a write of it landed at {landing.at:.3f} s"
            )
            return


def reservations_cover_what_they_free(history: Sequence[Commit], disks: SharedDisks) -> Iterator[str]:
    """SAFE-2: a role leaves an owner that is kept off some disks only if it writes to no others."""
    records = Records()
    writes_to = {role.name: frozenset(role.disks) for role in disks.roles.values()}
    for commit in history:
        for after in _written(commit, OWNERSHIPS, Ownership):
            owned = records.ownerships.get(after.role)
            if owned is None or owned.value.incarnation in (None, after.incarnation) or owned.value.phase not in BEGUN:
                continue
            proof = records.proofs.get(owned.value.incarnation)
            if proof is None or proof.kind is not ProofKind.STORAGE_RESERVATION:
                continue
            if after.role not in writes_to or not writes_to[after.role] <= frozenset(proof.disks):
                yield (
                    f"SAFE-2: {after.role} left {owned.value.owner} at {commit.at:.3f} s, "
                    f"which was kept off {', '.join(proof.disks)} only"
                )
        records.apply(commit)


def nobody_enters_with_guests(disks: SharedDisks, truth: Truth) -> Iterator[str]:
    """SAFE-1: a node registers with a disk only while no guest of it there could write."""
    for entry in disks.entered:
        run = entry.run
        yield f"SAFE-1: {run.node} registered with {entry.disk} at {entry.at:.3f} s while {truth.name_of(run.uuid)} ran"


def only_the_lost_are_refused(history: Sequence[Commit], disks: SharedDisks, truth: Truth) -> Iterator[str]:
    """SAFE-6: a guest's writes are refused only after its node was declared lost, or after its end.

    One of two paths may always be.
    """
    lost = {verdict.incarnation for commit in history for verdict in _written(commit, VERDICTS, Verdict)}
    for refusal in disks.refused if disks.path_count == 1 else ():
        run = refusal.run
        if run.incarnation not in lost and (run.ended is None or run.ended > refusal.at):
            yield f"SAFE-6: {refusal.disk} refused {truth.name_of(run.uuid)} on {run.node} at {refusal.at:.3f} s"
            return


def guests_begin_on_ready_disks(history: Sequence[Commit], disks: SharedDisks, truth: Truth) -> Iterator[str]:
    """SAFE-2: a guest begins only after its node registered and then wrote its session, so before any verdict."""
    written: dict[str, list[float]] = {}
    for commit in history:
        for change in commit.changes:
            if isinstance(change, KeyValue) and change.key.startswith(SESSIONS):
                written.setdefault(change.key.removeprefix(SESSIONS), []).append(commit.at)
    for run in truth.runs:
        key = reservation_key(CLUSTER_ID, Incarnation(run.incarnation))
        for disk in disks.roles[run.uuid].disks if run.uuid in disks.roles else ():
            since = max((at for at in disks.registrations.get((disk, key), ()) if at <= run.began), default=None)
            if since is None or not any(since < at <= run.began for at in written.get(run.node, ())):
                how = "unregistered" if since is None else "not confirmed since it registered"
                yield f"SAFE-2: {truth.name_of(run.uuid)} began on {run.node} at {run.began:.3f} s, {how} with {disk}"
                return


class ExpelledWatch:
    """SAFE-1: a node that is expelled from a disk ends the guests there, if anything on it works."""

    def __init__(self, world: World) -> None:
        self.found: list[str] = []
        self._world = world
        self._since: dict[int, float] = {}

    def start(self) -> None:
        """Look from now on."""
        if not self._world.shared_disks.roles:
            return
        world, now = self._world, self._world.loop.world_time()
        disks = world.shared_disks
        bad = [run for run in world.truth.living() if run.uuid in disks.roles and self._should_be_gone(run)]
        self._since = {run.number: self._since.get(run.number, now) for run in bad}
        for run in bad:
            if not self.found and now - self._since[run.number] > GONE_WITHIN_S:
                name = world.truth.name_of(run.uuid)
                self.found.append(f"SAFE-1: {name} still runs on {run.node} at {now:.3f} s, which was expelled")
        world.loop.call_later(LOOK_S, self.start, context=Context())

    def _should_be_gone(self, run: GuestRun) -> bool:
        machine, disks = self._world.machines[NodeName(run.node)], self._world.shared_disks
        works = machine.executes and machine.daemon is not None and machine.daemon.runs
        can_end = not (machine.is_libvirt_hung or machine.is_libvirt_down or run.uuid in machine.hypervisor.stuck)
        return works and can_end and disks.is_reached(run.node) and disks.is_expelled(run)


def _was_let_in_again(landing: Landing, disks: SharedDisks) -> bool:
    if not disks.forgotten:
        return False
    key = reservation_key(CLUSTER_ID, Incarnation(landing.run.incarnation))
    return any(
        forgot.disk == landing.disk and forgot.at < landing.at and key not in forgot.keys for forgot in disks.forgotten
    )


def _written(commit: Commit, prefix: str, kind: type[T]) -> Iterator[T]:
    for change in commit.changes:
        if isinstance(change, KeyValue) and change.key.startswith(prefix):
            yield decode(kind, change.key, change.value)
