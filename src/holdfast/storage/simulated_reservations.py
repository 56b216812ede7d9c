"""Registrations and the reservation of one simulated logical unit, as the standard tells a target to keep them.

Rule of the file: state and consequences only; no time, no tasks. A consequence is a unit attention for a nexus, or
the list of nexuses whose commands must be aborted. Source: SPC-4 clause 5.13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.storage.scsi.command import OperationCode
from holdfast.storage.scsi.reservations import OutAction, Reservation, ReservationType, ReserveOut
from holdfast.storage.scsi.sense import Sense, SenseKey
from holdfast.storage.scsi.status import Status

RESERVATIONS_PREEMPTED: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2A03)
RESERVATIONS_RELEASED: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2A04)
REGISTRATIONS_PREEMPTED: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2A05)
INVALID_OPERATION: Final = Sense(key=SenseKey.ILLEGAL_REQUEST, code=0x2000)
INVALID_COMMAND_FIELD: Final = Sense(key=SenseKey.ILLEGAL_REQUEST, code=0x2400)
INVALID_PARAMETER: Final = Sense(key=SenseKey.ILLEGAL_REQUEST, code=0x2600)
INVALID_RELEASE: Final = Sense(key=SenseKey.ILLEGAL_REQUEST, code=0x2604)

WRITING: Final = (OperationCode.WRITE_16, OperationCode.SYNCHRONIZE_CACHE_16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a PERSISTENT RESERVE OUT ends. `aborts` are the nexuses whose commands go."""

    status: Status = Status.GOOD
    sense: Sense | None = None
    aborts: tuple[str, ...] = ()


_GOOD: Final = Verdict()
_CONFLICT: Final = Verdict(status=Status.RESERVATION_CONFLICT)


class SimulatedReservations:
    """Who is registered, who reserved. A nexus is any name that tells one initiator session from another.

    attend    called with a nexus and a unit attention that it must be told.
    """

    def __init__(self, *, attend: Callable[[str, Sense], None], can_survive_power_loss: bool, can_abort: bool) -> None:
        self.registered: dict[str, int] = {}
        self.type: ReservationType | None = None
        self.holder: str | None = None
        """None also when all registrants hold it."""
        self.generation = 0
        self.survives_power_loss = False
        self._attend = attend
        self._can_survive_power_loss = can_survive_power_loss
        self._can_abort = can_abort
        self._acts: dict[OutAction, Callable[[str, ReserveOut], Verdict]] = {
            OutAction.REGISTER: self._register,
            OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: self._register,
            OutAction.RESERVE: self._reserve,
            OutAction.RELEASE: self._release,
            OutAction.CLEAR: self._clear,
            OutAction.PREEMPT: self._preempt,
            OutAction.PREEMPT_AND_ABORT: self._preempt,
        }

    @property
    def reservation(self) -> Reservation | None:
        """As READ RESERVATION tells it."""
        if self.type is None:
            return None
        return Reservation(key=0 if self.holder is None else self.registered[self.holder], type=self.type)

    def holds(self, nexus: str) -> bool:
        """Whether the reservation is this nexus'."""
        if self.type is None or nexus not in self.registered:
            return False
        return self.type.is_all_registrants or self.holder == nexus

    def admits(self, nexus: str, operation: int) -> bool:
        """Whether the reservation lets a command of this nexus through. Source: SPC-4 table 66, SBC-3 table 13."""
        if self.type is None or self.holds(nexus) or (self.type.admits_registrants and nexus in self.registered):
            return True
        return not (operation in WRITING or (operation == OperationCode.READ_16 and self.type.forbids_reading))

    def carry_out(self, nexus: str, request: ReserveOut) -> Verdict:
        """Carry a PERSISTENT RESERVE OUT out, or refuse it."""
        if request.action is OutAction.PREEMPT_AND_ABORT and not self._can_abort:
            return _refused(INVALID_COMMAND_FIELD)
        if request.action not in _REGISTERS and self.registered.get(nexus) != request.key:
            return _CONFLICT
        if request.action in _TYPED and request.type is None:
            return _refused(INVALID_COMMAND_FIELD)
        return self._acts[request.action](nexus, request)

    def lose_power(self) -> None:
        """Come back after a power loss: with everything, if the newest registration asked for it, or with nothing."""
        self.generation = 0
        if not self.survives_power_loss:
            self.registered.clear()
            self._free()

    def forget(self, nexus: str) -> None:
        """Drop what a nexus has, as if it had unregistered."""
        if nexus in self.registered:
            self._unregister(nexus)

    def _register(self, nexus: str, request: ReserveOut) -> Verdict:
        current = self.registered.get(nexus, 0)
        if request.action is OutAction.REGISTER and current != request.key:
            return _CONFLICT
        if request.survives_power_loss and not self._can_survive_power_loss:
            return _refused(INVALID_PARAMETER)
        if not current and not request.service_key:
            return _GOOD
        self.survives_power_loss = request.survives_power_loss
        self.generation += 1
        if request.service_key:
            self.registered[nexus] = request.service_key
        else:
            self._unregister(nexus)
        return _GOOD

    def _unregister(self, nexus: str) -> None:
        was_holder = self.holder == nexus
        del self.registered[nexus]
        if was_holder or (self.type is not None and not self.registered):
            if self.type is not None and self.type.admits_registrants:
                self._tell(RESERVATIONS_RELEASED, but=nexus)
            self._free()

    def _reserve(self, nexus: str, request: ReserveOut) -> Verdict:
        if self.type is None:
            self._take(nexus, request.type)
        elif not self.holds(nexus) or self.type is not request.type:
            return _CONFLICT
        return _GOOD

    def _release(self, nexus: str, request: ReserveOut) -> Verdict:
        if not self.holds(nexus):
            return _GOOD
        if self.type is not request.type:
            return _refused(INVALID_RELEASE)
        if self.type is not None and self.type.admits_registrants:
            self._tell(RESERVATIONS_RELEASED, but=nexus)
        self._free()
        return _GOOD

    def _clear(self, nexus: str, _: ReserveOut) -> Verdict:
        self._tell(RESERVATIONS_PREEMPTED, but=nexus)
        self.registered.clear()
        self._free()
        self.generation += 1
        return _GOOD

    def _preempt(self, nexus: str, request: ReserveOut) -> Verdict:
        takes_over = self._is_holders_key(request.service_key)
        if not request.service_key and not takes_over:
            return _refused(INVALID_PARAMETER)
        if request.service_key:
            victims = [other for other, key in self.registered.items() if key == request.service_key]
        else:
            victims = list(self.registered)
        if not victims:
            return _CONFLICT
        lost = [other for other in victims if not (takes_over and other == nexus)]
        before = self.type
        for other in lost:
            del self.registered[other]
            if other != nexus:
                self._attend(other, REGISTRATIONS_PREEMPTED)
        self.generation += 1
        if takes_over:
            self._take(nexus, request.type)
            if self.type is not before:
                self._tell(RESERVATIONS_RELEASED, but=nexus)
        elif not self.registered:
            self._free()
        return Verdict(aborts=tuple(victims) if request.action is OutAction.PREEMPT_AND_ABORT else ())

    def _is_holders_key(self, key: int) -> bool:
        if self.type is None:
            return False
        if self.type.is_all_registrants:
            return key == 0
        return self.holder is not None and self.registered[self.holder] == key

    def _take(self, nexus: str, kind: ReservationType | None) -> None:
        self.type = kind
        self.holder = None if kind is not None and kind.is_all_registrants else nexus

    def _free(self) -> None:
        self.type = None
        self.holder = None

    def _tell(self, sense: Sense, *, but: str) -> None:
        for nexus in self.registered:
            if nexus != but:
                self._attend(nexus, sense)


_REGISTERS: Final = (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)
_TYPED: Final = (OutAction.RESERVE, OutAction.RELEASE, OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)


def _refused(sense: Sense) -> Verdict:
    return Verdict(status=Status.CHECK_CONDITION, sense=sense)
