"""Everything the guard decides: ``step(state, event, now) -> (state, actions)``.

Rule of the file: pure. No clock, no files, no processes, so that tests and the simulator run exactly this code.
(Named tuples where the rest of Holdfast has dataclasses: those cost the guard 2 MiB of locked memory.)

    UNARMED ──extend──> ENTITLED ──deadline passes──> KILLING ──scan finds none──> QUIET ──extend──> ENTITLED
                                                         ^────scan finds one────────┘

Invariant: a Kill is returned only in KILLING, and only for a guest on the list.
Invariant: KILLING is left only by a complete scan that found no protected guest alive. An extension that arrives
meanwhile is refused, because others may have taken the guests over since the deadline passed. Source: SAFE-1, DESIGN 4.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from holdfast.fencing.guard.protocol import (
    KILL_BOUND_MS,
    MAX_EXTENSION_S,
    PETS_PER_TIMEOUT,
    SCAN_INTERVAL_MS,
    ErrorCode,
)

DEATHS_KEPT = 64


class Phase(StrEnum):
    """Where the guard stands between trusting holdfastd and killing for it."""

    UNARMED = "unarmed"
    ENTITLED = "entitled"
    KILLING = "killing"
    QUIET = "quiet"


class Victim(NamedTuple):
    """A process of a protected guest. A pid alone can be used again; pid and start time cannot."""

    pid: int
    start_time: int
    uuid: str


class Death(NamedTuple):
    """A victim that a complete scan no longer found."""

    victim: Victim
    at: float


class State(NamedTuple):
    """All the guard knows. ``deadline`` and ``guests`` outlive the process; ``deadline`` is None until one was set.

    ``killing_since`` is when the current killing became due; ``alive`` is what the last scan found.
    """

    watchdog_timeout_s: float | None = None
    kill_bound_s: float = KILL_BOUND_MS / 1000
    phase: Phase = Phase.UNARMED
    deadline: float | None = None
    guests: frozenset[str] = frozenset()
    killing_since: float = 0.0
    alive: frozenset[Victim] = frozenset()
    deaths: tuple[Death, ...] = ()
    next_scan_at: float = 0.0
    next_pet_at: float = 0.0


class Notice(StrEnum):
    """An event that carries nothing: time passed, somebody asks, orderly shutdown, SIGTERM."""

    WAKE = "wake"
    HELLO = "hello"
    DISARM = "disarm"
    TERMINATE = "terminate"


class Extend(NamedTuple):
    """holdfastd proved that nobody takes this node's guests over before ``deadline``."""

    deadline: float


class Protect(NamedTuple):
    """The guest must die when the deadline passes."""

    uuid: str


class Unprotect(NamedTuple):
    """The guest has left this node in an orderly way."""

    uuid: str


class Scanned(NamedTuple):
    """The answer to SCAN. ``complete`` is False when some process could not be judged: then absence proves nothing."""

    alive: frozenset[Victim]
    complete: bool


Request = Notice | Extend | Protect | Unprotect
Event = Request | Scanned


class Order(StrEnum):
    """An action that carries nothing.

    PERSIST: record deadline and list before the reply that follows. SCAN: look for living guests of the list and feed a
    Scanned back at once. PET: restart the count-down of the hardware watchdog.
    """

    PERSIST = "persist"
    SCAN = "scan"
    PET = "pet"


class Kill(NamedTuple):
    """SIGKILL this process."""

    victim: Victim


class Reply(NamedTuple):
    """Answer the request. ``error`` None means done."""

    error: ErrorCode | None = None
    message: str = ""


class Exit(NamedTuple):
    """End the process; switch the hardware watchdog off first only if ``disarm``."""

    disarm: bool


Action = Order | Kill | Reply | Exit
Step = tuple[State, tuple[Action, ...]]


def restored(initial: State, *, deadline: float | None, guests: frozenset[str]) -> State:
    """Return ``initial`` continuing where the recorded guard ended. The next step sees whether the deadline passed."""
    phase = Phase.UNARMED if deadline is None else Phase.ENTITLED
    return initial._replace(phase=phase, deadline=deadline, guests=guests)


def step(state: State, event: Event, now: float) -> Step:
    """Return what the guard knows and does after ``event``. The clock is looked at before the event is."""
    if isinstance(event, Scanned):
        return _scanned(state, event, now)
    state, due = _pass_time(state, now)
    state, answer = _handle(state, event, now)
    return state, due + answer


def wake_at(state: State) -> float | None:
    """Return when ``step`` must be called even if nothing happens; None means never."""
    times = []
    if state.phase is Phase.ENTITLED and state.deadline is not None:
        times.append(state.deadline)
    if state.phase in (Phase.KILLING, Phase.QUIET):
        times.append(state.next_scan_at)
    if state.watchdog_timeout_s is not None and (state.phase is not Phase.KILLING or _can_still_pet(state)):
        times.append(state.next_pet_at)
    return min(times, default=None)


def _can_still_pet(state: State) -> bool:
    return state.next_pet_at < state.killing_since + state.kill_bound_s


def _pass_time(state: State, now: float) -> Step:
    actions: tuple[Action, ...] = ()
    if state.phase is Phase.ENTITLED and state.deadline is not None and now >= state.deadline:
        state = state._replace(phase=Phase.KILLING, killing_since=state.deadline, next_scan_at=now)
    if state.phase in (Phase.KILLING, Phase.QUIET) and now >= state.next_scan_at:
        state = state._replace(next_scan_at=now + SCAN_INTERVAL_MS / 1000)
        actions += (Order.SCAN,)
    within_bound = now < state.killing_since + state.kill_bound_s
    may_pet = state.phase is not Phase.KILLING or within_bound
    if state.watchdog_timeout_s is not None and now >= state.next_pet_at:
        if may_pet:
            state = state._replace(next_pet_at=now + state.watchdog_timeout_s / PETS_PER_TIMEOUT)
            actions += (Order.PET,)
        else:  # missed, for example by being frozen: it is too late to wake for it
            state = state._replace(next_pet_at=state.killing_since + state.kill_bound_s)
    return state, actions


def _handle(state: State, event: Request, now: float) -> Step:
    match event:
        case Notice.WAKE:
            return state, ()
        case Notice.HELLO:
            return state, (Reply(),)
        case Extend(deadline=deadline):
            return _extend(state, deadline, now)
        case Protect(uuid=uuid):
            return state._replace(guests=state.guests | {uuid}), (Order.PERSIST, Reply())
        case Unprotect(uuid=uuid):
            if state.phase is Phase.KILLING and uuid in state.guests:
                return state, (_condemned(),)
            return state._replace(guests=state.guests - {uuid}), (Order.PERSIST, Reply())
        case Notice.DISARM:
            if state.guests:
                message = f"{len(state.guests)} guests are protected; unprotect them first"
                return state, (Reply(error=ErrorCode.STILL_PROTECTED, message=message),)
            return state, (Reply(), Exit(disarm=True))
        case Notice.TERMINATE:
            return state, (Exit(disarm=not state.guests),)


def _condemned() -> Reply:
    message = "the deadline has passed and not all protected guests are dead yet; ask again when they are"
    return Reply(error=ErrorCode.CONDEMNED, message=message)


def _extend(state: State, deadline: float, now: float) -> Step:
    if deadline > now + MAX_EXTENSION_S:
        message = f"deadline is {deadline - now:.0f} s ahead, at most {MAX_EXTENSION_S:.0f} s are accepted"
        return state, (Reply(error=ErrorCode.BAD_REQUEST, message=message),)
    if state.phase is Phase.KILLING:
        return state, (_condemned(),)
    if deadline <= now or (state.deadline is not None and deadline <= state.deadline):
        return state, (Reply(),)
    return state._replace(deadline=deadline, phase=Phase.ENTITLED), (Order.PERSIST, Reply())


def _scanned(state: State, event: Scanned, now: float) -> Step:
    if state.phase not in (Phase.KILLING, Phase.QUIET):
        return state, ()
    alive = frozenset(victim for victim in event.alive if victim.uuid in state.guests)
    if not event.complete:
        alive |= state.alive
    died = sorted(state.alive - alive, key=lambda victim: victim.pid)
    deaths = (state.deaths + tuple(Death(victim=victim, at=now) for victim in died))[-DEATHS_KEPT:]
    killing = bool(alive) or not event.complete
    newly = killing and state.phase is Phase.QUIET
    state = state._replace(
        phase=Phase.KILLING if killing else Phase.QUIET,
        killing_since=now if newly else state.killing_since,
        alive=alive,
        deaths=deaths,
    )
    return state, tuple(Kill(victim=victim) for victim in sorted(alive, key=lambda victim: victim.pid))
