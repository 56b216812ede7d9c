"""A simulated logical unit: blocks, reservations, the commands under way, and unit attentions waiting to be told.

Rule of the file: a command is judged when it arrives and has its effect when it is executed, and in between it may be
aborted. A write that was let in before its nexus lost its registration lands afterwards, unless an abort or a reset
drops it: exactly what PREEMPT AND ABORT is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.storage.scsi.capacity import BlockCapacity
from holdfast.storage.scsi.command import Command, OperationCode, block_range
from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.inquiry import (
    IDENTIFICATION_PAGE,
    SERIAL_NUMBER_PAGE,
    Designator,
    DesignatorType,
    InquiryData,
    encode_designators,
    encode_serial_number,
)
from holdfast.storage.scsi.reservations import (
    Capabilities,
    InAction,
    Keys,
    Registration,
    ReservationReading,
    ReservationType,
    decode_reserve_out,
    encode_full_status,
)
from holdfast.storage.scsi.sense import Sense, SenseKey
from holdfast.storage.scsi.status import Status
from holdfast.storage.scsi.transport_id import iscsi_transport_id
from holdfast.storage.simulated_reservations import (
    INVALID_COMMAND_FIELD,
    INVALID_OPERATION,
    INVALID_PARAMETER,
    SimulatedReservations,
)
from holdfast.storage.transport import Answer

POWER_ON: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2900)
NEXUS_LOST: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2907)
RESET_BY_ANOTHER: Final = Sense(key=SenseKey.UNIT_ATTENTION, code=0x2903)
OUT_OF_RANGE: Final = Sense(key=SenseKey.ILLEGAL_REQUEST, code=0x2100)
_COMPANY: Final = 0x6_001405
"""A registered name of the company that the kernel's own targets use."""
_UNDISTURBED: Final = (OperationCode.INQUIRY, OperationCode.REPORT_LUNS)
"""Commands that are answered although a unit attention waits. Source: SAM-5 clause 5.14.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTraits:
    """What a make of target can do. The defaults are a good array's; `FORGETFUL` is tgtd 1.0.85."""

    can_survive_power_loss: bool = True
    can_abort: bool = True
    reinstates_sessions: bool = True
    """Whether an initiator that logs in again takes its old session's place and is the nexus it was, as the standards
    say. Otherwise it is a stranger, and its old session goes on beside it."""


FORGETFUL: Final = DiskTraits(can_survive_power_loss=False, can_abort=False, reinstates_sessions=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteEffect:
    """A block that changed on the medium, for whoever keeps the books."""

    nexus: str
    block: int
    data: bytes


@dataclass(slots=True, eq=False)
class PendingCommand:
    """A command that was let in and has had no effect yet. `drop` is called when it is aborted."""

    nexus: str
    command: Command
    drop: Callable[[], None]


class SimulatedDisk:
    """One logical unit. Blocks that nobody wrote read as zeros.

    number      tells disks apart; the designator is made of it.
    coming      so many commands are on their way to it.
    observe     called with every block that changes on the medium, at the instant it does.
    """

    def __init__(
        self,
        number: int,
        *,
        blocks: int = 2048,
        block_bytes: int = 512,
        traits: DiskTraits | None = None,
        observe: Callable[[WriteEffect], None] = lambda _: None,
    ) -> None:
        self.name = f"naa.{_COMPANY << 100 | number:032x}"
        self.traits = traits or DiskTraits()
        self.capacity = BlockCapacity(blocks=blocks, block_bytes=block_bytes)
        self.medium: dict[int, bytes] = {}
        self.coming = 0
        self.pending: list[PendingCommand] = []
        self.attentions: dict[str, list[Sense]] = {}
        self.reservations = SimulatedReservations(
            attend=self.attend,
            can_survive_power_loss=self.traits.can_survive_power_loss,
            can_abort=self.traits.can_abort,
        )
        self._observe = observe

    @property
    def is_idle(self) -> bool:
        """Whether no command is on its way to it or has yet to have its effect."""
        return not self.coming and not self.pending

    def attend(self, nexus: str, sense: Sense) -> None:
        """Have a nexus told something with its next command; the same thing is told once."""
        waiting = self.attentions.setdefault(nexus, [])
        if sense not in waiting:
            waiting.append(sense)

    def admit(self, nexus: str, command: Command) -> Answer | None:
        """Judge a command that arrives. None lets it in: execute it now or later."""
        waiting = self.attentions.get(nexus)
        if waiting and command.operation not in _UNDISTURBED:
            return check_condition(waiting.pop(0))
        if not self.reservations.admits(nexus, command.operation):
            return Answer(status=Status.RESERVATION_CONFLICT)
        return None

    def execute(self, nexus: str, command: Command, *, blocks_written: int | None = None) -> Answer:
        """Give a command its effect. `blocks_written` tears a write after so many blocks."""
        match command.operation:
            case OperationCode.TEST_UNIT_READY | OperationCode.SYNCHRONIZE_CACHE_16:
                return Answer(status=Status.GOOD)
            case OperationCode.INQUIRY:
                return self._inquire(command)
            case OperationCode.SERVICE_ACTION_IN_16:
                return _good(self.capacity.encode(), command)
            case OperationCode.READ_16:
                return self._read(command)
            case OperationCode.WRITE_16:
                return self._write(nexus, command, blocks_written)
            case OperationCode.PERSISTENT_RESERVE_IN:
                return self._reserve_in(command)
            case OperationCode.PERSISTENT_RESERVE_OUT:
                return self._reserve_out(nexus, command)
            case _:
                return check_condition(INVALID_OPERATION)

    def abort(self, nexuses: tuple[str, ...]) -> None:
        """Drop the unfinished commands of these nexuses. Nobody is answered (TAS=0)."""
        for item in [item for item in self.pending if item.nexus in nexuses]:
            self.pending.remove(item)
            item.drop()

    def reset(self, nexus: str) -> None:
        """LOGICAL UNIT RESET: drop everybody's commands and tell the others. Reservations stay."""
        self.drop_pending()
        for other in self.attentions:
            if other != nexus:
                self.attend(other, RESET_BY_ANOTHER)

    def lose_power(self) -> None:
        """Lose power and come back: commands are gone; registrations too, unless they were to survive."""
        self.drop_pending()
        self.reservations.lose_power()
        for nexus in self.attentions:
            self.attentions[nexus] = [POWER_ON]

    def drop_pending(self) -> None:
        """Drop every unfinished command."""
        pending, self.pending = self.pending, []
        for item in pending:
            item.drop()

    def _inquire(self, command: Command) -> Answer:
        if not command.cdb[1] & 1:
            data = InquiryData(device_type=0, is_connected=True, vendor="HOLDFAST", product="SIMULATED", revision="1")
            return _good(data.encode(), command)
        if command.cdb[2] == IDENTIFICATION_PAGE:
            value = bytes.fromhex(self.name.removeprefix("naa."))
            return _good(
                encode_designators((Designator(type=DesignatorType.NAA, association=0, code_set=1, value=value),)),
                command,
            )
        if command.cdb[2] == SERIAL_NUMBER_PAGE:
            return _good(encode_serial_number(self.name[-16:]), command)
        return check_condition(INVALID_COMMAND_FIELD)

    def _read(self, command: Command) -> Answer:
        first, count = block_range(command.cdb)
        if first + count > self.capacity.blocks:
            return check_condition(OUT_OF_RANGE)
        empty = bytes(self.capacity.block_bytes)
        return _good(b"".join(self.medium.get(block, empty) for block in range(first, first + count)), command)

    def _write(self, nexus: str, command: Command, blocks_written: int | None) -> Answer:
        first, count = block_range(command.cdb)
        size = self.capacity.block_bytes
        if first + count > self.capacity.blocks or len(command.data_out) != count * size:
            return check_condition(OUT_OF_RANGE)
        for index in range(count if blocks_written is None else min(count, blocks_written)):
            data = command.data_out[index * size : (index + 1) * size]
            self.medium[first + index] = data
            self._observe(WriteEffect(nexus=nexus, block=first + index, data=data))
        return Answer(status=Status.GOOD)

    def _reserve_in(self, command: Command) -> Answer:
        held = self.reservations
        match command.cdb[1] & 0x1F:
            case InAction.READ_KEYS:
                data = Keys(generation=held.generation, keys=tuple(held.registered.values())).encode()
            case InAction.READ_RESERVATION:
                data = ReservationReading(generation=held.generation, reservation=held.reservation).encode()
            case InAction.REPORT_CAPABILITIES:
                data = Capabilities(
                    can_survive_power_loss=self.traits.can_survive_power_loss,
                    survives_power_loss=held.survives_power_loss,
                    can_register_all_target_ports=False,
                    types=frozenset(ReservationType),
                ).encode()
            case InAction.READ_FULL_STATUS:
                data = encode_full_status(held.generation, [self._registration(nexus) for nexus in held.registered])
            case _:
                return check_condition(INVALID_COMMAND_FIELD)
        return _good(data, command)

    def _registration(self, nexus: str) -> tuple[Registration, bytes]:
        held = self.reservations
        is_holder = held.holds(nexus)
        registration = Registration(
            key=held.registered[nexus],
            is_holder=is_holder,
            type=held.type if is_holder else None,
            target_port=1,
            initiator=nexus,
        )
        return registration, iscsi_transport_id(nexus)

    def _reserve_out(self, nexus: str, command: Command) -> Answer:
        try:
            request = decode_reserve_out(command)
        except MalformedReply:
            return check_condition(INVALID_PARAMETER)
        verdict = self.reservations.carry_out(nexus, request)
        self.abort(verdict.aborts)
        return Answer(status=verdict.status, sense=verdict.sense.encode() if verdict.sense else b"")


def check_condition(sense: Sense) -> Answer:
    """The answer of a target that refuses, and why."""
    return Answer(status=Status.CHECK_CONDITION, sense=sense.encode())


def _good(data: bytes, command: Command) -> Answer:
    return Answer(status=Status.GOOD, data=data[: command.data_in_bytes])
