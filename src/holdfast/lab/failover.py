"""One pulled plug, watched from outside: what the demo shows and the benchmark measures.

Rule of the file: times are seconds of CLOCK_MONOTONIC since the plug, and err on the late side. Suspicion counts by its
observer's own stamp; verdict, proof and owner count when a survivor shows them as committed; QEMU by the birth of its
process; the guest by its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.client import requests
from holdfast.lab.errors import LabBroken
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab
from holdfast.lab.provision import client_of
from holdfast.lab.qemu import TICK_S, QemuWatch
from holdfast.model.events import Event, EventCode
from holdfast.model.reasons import ReasonCode
from holdfast.model.status import EventLine, RoleState, RoleStatus

FAILOVER_LIMIT_S = 60.0
ANSWER_LIMIT_S = 180.0
_LOOK_S = 0.02


class Stage(StrEnum):
    """What happens after a power cut, in the order in which it must."""

    SUSPECT = "suspect"
    VERDICT = "verdict"
    PROOF = "proof"
    OWNER = "owner"
    QEMU = "qemu"
    GUEST = "guest"


STAGE_OF_EVENT = {
    EventCode.NODE_SUSPECT: Stage.SUSPECT,
    EventCode.NODE_LOST: Stage.VERDICT,
    EventCode.NODE_FENCED: Stage.PROOF,
    EventCode.ROLE_ASSIGNED: Stage.OWNER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """A stage reached `at` seconds after the plug: of a role, or of the victim when `role` is None.

    node        the new owner, for OWNER.
    silent_s    how long the victim had been silent, for SUSPECT.
    why         the cluster's own reasons, for the stages that it tells.
    """

    stage: Stage
    at: float
    role: str | None = None
    node: str | None = None
    silent_s: float | None = None
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Failover:
    """All that was seen of one failover."""

    victim: str
    roles: tuple[str, ...]
    milestones: list[Milestone] = field(default_factory=list)

    def times(self, stage: Stage) -> tuple[float, ...]:
        """When the stage was reached, earliest first: once for the victim, or once per role."""
        return tuple(sorted(one.at for one in self.milestones if one.stage is stage))

    def is_complete(self, stages: Iterable[Stage]) -> bool:
        """Whether each of these stages was reached, by every role that it concerns."""
        reached = {(one.stage, one.role) for one in self.milestones}
        return reached >= {(stage, role) for stage in stages for role in self._subjects(stage)}

    def _subjects(self, stage: Stage) -> tuple[str | None, ...]:
        return self.roles if stage in (Stage.OWNER, Stage.QEMU, Stage.GUEST) else (None,)


Show = Callable[[Milestone], None]


async def pull_plug(
    lab: Lab, victim: str, guests: Mapping[str, Guest], *, asked: str, show: Show = lambda _milestone: None
) -> Failover:
    """Pull the plug of `victim` and watch, from `asked` and from outside, until all its guests answer elsewhere.

    `guests` by role name; those of the victim must answer now. Raises: LabBroken when it has none, or one stays away.
    """
    client = await client_of(lab, asked)
    status = await client.call(requests.status())
    roles = [role for role in status.roles if role.owner == victim and role.state is RoleState.ONLINE]
    if not roles:
        raise LabBroken(f"{victim} runs no guest, so there would be nothing to watch")
    boots = {role.name: (await guests[role.name].wait_answer()).boot_id for role in roles}
    async with aclosing(client.follow(requests.follow_events(limit=1))) as events:
        await anext(events)
        watch = _Watch(victim, roles, show)
        watch.plugged_at = await lab.power_off(victim)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.follow_events(events))
                tasks.create_task(watch.find_processes())
                for name, boot in boots.items():
                    tasks.create_task(watch.wait_answer(guests[name], boot))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
    return watch.seen


class _Watch:
    """The observers of one failover; `plugged_at` is set before any of them runs."""

    def __init__(self, victim: str, roles: list[RoleStatus], show: Show) -> None:
        self.seen = Failover(victim=victim, roles=tuple(role.name for role in roles))
        self.plugged_at = 0.0
        self._victim = victim
        self._names = {role.uuid: role.name for role in roles}
        self._show = show
        self._processes = QemuWatch()

    async def follow_events(self, events: AsyncGenerator[EventLine, None]) -> None:
        """Note what the cluster says, until it has said everything."""
        stages = set(STAGE_OF_EVENT.values())
        async with _limit(FAILOVER_LIMIT_S, self.seen, stages):
            while not self.seen.is_complete(stages):
                self._note_event((await anext(events)).event)

    def _note_event(self, event: Event) -> None:
        stage = STAGE_OF_EVENT.get(event.code)
        stamp = event.monotonic_ms / 1000 - self.plugged_at
        if stage is None or stamp < 0:
            return
        now = asyncio.get_running_loop().time() - self.plugged_at
        why = "; ".join(map(str, event.reasons))
        if stage is Stage.OWNER:
            if event.subject in self.seen.roles and not self._has(stage, event.subject):
                self._note(Milestone(stage=stage, at=now, role=event.subject, node=event.target, why=why))
        elif event.subject == self._victim and not self._has(stage, None):
            if stage is Stage.SUSPECT:
                self._note(Milestone(stage=stage, at=stamp, silent_s=_silence(event), why=why))
            else:
                self._note(Milestone(stage=stage, at=now, why=why))

    async def find_processes(self) -> None:
        """Note the birth of each guest's new QEMU process."""
        async with _limit(FAILOVER_LIMIT_S, self.seen, [Stage.QEMU]):
            while not self.seen.is_complete([Stage.QEMU]):
                for uuid, start in self._processes.born().items():
                    name, at = self._names.get(uuid), start.started_at - self.plugged_at
                    if name is not None and at >= -TICK_S and not self._has(Stage.QEMU, name):
                        self._note(Milestone(stage=Stage.QEMU, at=at, role=name))
                await asyncio.sleep(_LOOK_S)

    async def wait_answer(self, guest: Guest, boot_id: str) -> None:
        """Note the first answer of a guest's new instance."""
        answer = await guest.wait_answer(other_than=boot_id, timeout_s=ANSWER_LIMIT_S)
        self._note(Milestone(stage=Stage.GUEST, at=answer.answered_at - self.plugged_at, role=guest.name))

    def _has(self, stage: Stage, role: str | None) -> bool:
        return any((one.stage, one.role) == (stage, role) for one in self.seen.milestones)

    def _note(self, milestone: Milestone) -> None:
        self.seen.milestones.append(milestone)
        self._show(milestone)


def _silence(event: Event) -> float | None:
    told = (reason.facts.get("silent_ms") for reason in event.reasons if reason.code is ReasonCode.SILENT)
    return next((float(ms) / 1000 for ms in told if ms is not None), None)


@asynccontextmanager
async def _limit(limit_s: float, seen: Failover, stages: Iterable[Stage]) -> AsyncIterator[None]:
    """Bound the body, and say what was missing when it lasts too long. Raises: LabBroken."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        missing = ", ".join(stage for stage in stages if not seen.is_complete([stage]))
        raise LabBroken(f"{limit_s:g} s after {seen.victim} lost power there is still no {missing}") from error
