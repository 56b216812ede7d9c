"""What becomes of a snapshot when everybody does what the plan and the lifecycle say, until nobody has anything to do.

Rule of the file: time stands still; owners that are up act at once; guests start and end as told, but for broken nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.decide.made_up import NOW_MS

from holdfast.decide.coordination import Change, Plan, plan
from holdfast.decide.freedom import freedom_of, has_living_owner
from holdfast.decide.lifecycle import after_failed_start, next_step
from holdfast.decide.steps import Act
from holdfast.model.ids import NodeName, Revision, RoleName
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import Ownership, Phase
from holdfast.model.snapshot import Snapshot, Versioned

RUNS = (Phase.ONLINE, Phase.STOPPING)


@dataclass(slots=True)
class Life:
    """A cluster that goes on until it rests. `broken`: nodes where no guest starts."""

    snapshot: Snapshot
    broken: Collection[NodeName] = ()
    now_ms: int = NOW_MS
    changes: list[Change] = field(default_factory=list)
    assigned: Counter[RoleName] = field(default_factory=Counter)
    guests: set[RoleName] = field(default_factory=set)
    last: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        self.guests = {role for role, one in self.snapshot.ownerships.items() if one.value.phase in RUNS}

    def live(self, rounds: int = 80) -> Snapshot:
        """Go on until nothing happens any more; an assertion fails when that never comes."""
        for _ in range(rounds):
            self.last = plan(self.snapshot, self.now_ms)
            for change in self.last.changes:
                self._put(change.after)
                self.changes.append(change)
                self.assigned[change.role] += change.after.phase is Phase.ASSIGNED
            stepped = [self._step(role) for role in sorted(self.snapshot.ownerships)]
            if not self.last.changes and not any(stepped):
                return self.snapshot
        raise AssertionError(f"never rests: {self.last.changes}")

    def _step(self, role: RoleName) -> bool:
        ownership = self.snapshot.ownerships[role].value
        owner = ownership.owner
        if owner is None or role not in self.snapshot.specs:
            return False
        if self.snapshot.session_of(owner, ownership.incarnation) is None:
            return False
        spec = self.snapshot.specs[role].value
        guest = GuestObservation.RUNNING if role in self.guests else GuestObservation.ABSENT
        step = next_step(ownership, spec, guest, self.now_ms, is_frozen=self.snapshot.is_frozen)
        if step.record is not None:
            self._put(step.record)
        if step.act is Act.TAKE_OFFLINE:
            self.guests.discard(role)
        if step.act is Act.BRING_ONLINE and owner in self.broken:
            started = self.snapshot.ownerships[role].value
            self._put(after_failed_start(started, spec, "broken", self.now_ms, is_frozen=self.snapshot.is_frozen))
        elif step.act is Act.BRING_ONLINE:
            self.guests.add(role)
        return step.record is not None or step.act is not Act.NOTHING

    def _put(self, after: Ownership) -> None:
        if after.phase is Phase.VACANT:
            self.guests.discard(after.role)
        self.snapshot = put(self.snapshot, after)


def put(snapshot: Snapshot, after: Ownership) -> Snapshot:
    """The snapshot with one record changed."""
    revision = Revision(snapshot.revision + 1)
    record = Versioned(value=after, revision=revision, created=revision)
    changes: dict[str, Any] = {"ownerships": {**snapshot.ownerships, after.role: record}, "revision": revision}
    return replace(snapshot, **changes)


def holds(snapshot: Snapshot, ownership: Ownership) -> bool:
    """Whether its record keeps its place: that of a role that is free and that nobody can take does not."""
    return has_living_owner(ownership, snapshot) or bool(freedom_of(ownership, snapshot, NOW_MS).blocked)
