"""The one implementation of `Lun`, over any transport.

Rule of the file: this is the only place that repeats commands. A unit attention means that the command was not carried
out (SAM-5 clause 5.14), so it is repeated and the attention kept; a busy target is asked again until the deadline.
Nothing else is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.storage.outcome import Attention, Conflict, Done, Failed, Outcome, Unknown
from holdfast.storage.port import Identity
from holdfast.storage.scsi import command as scsi
from holdfast.storage.scsi.capacity import BlockCapacity, decode_capacity
from holdfast.storage.scsi.command import Command
from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.inquiry import (
    IDENTIFICATION_PAGE,
    SERIAL_NUMBER_PAGE,
    best_designator,
    decode_designators,
    decode_inquiry,
    decode_serial_number,
)
from holdfast.storage.scsi.reservations import (
    Capabilities,
    FullStatus,
    InAction,
    Keys,
    OutAction,
    ReservationReading,
    ReservationType,
    ReserveOut,
    decode_capabilities,
    decode_full_status,
    decode_keys,
    decode_reservation,
    reserve_in,
)
from holdfast.storage.scsi.sense import SenseKey, decode_sense
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer, Lost, Reply, Transport, Unsent

ATTENTIONS_MAX: Final = 16
"""More unit attentions than this in a row are a broken target."""
BUSY_PAUSE_MS: Final = 20
TIMEOUT_MS: Final = 5000
"""Of a request. One second gave false alarms on a loaded machine."""
T = TypeVar("T")


class ScsiLun:
    """A logical unit through a transport. `timeout_ms` bounds every request, repetitions included."""

    def __init__(self, transport: Transport, *, timeout_ms: int = TIMEOUT_MS) -> None:
        self._transport = transport
        self._timeout_ms = timeout_ms
        self._block_bytes = 0

    @property
    def path(self) -> str:
        """See `Lun`."""
        return self._transport.path

    async def identity(self) -> Outcome[Identity]:
        """See `Lun`."""
        who = await self._ask(scsi.inquiry(), decode_inquiry)
        if not isinstance(who, Done):
            return who
        named = await self._ask(scsi.inquiry(page=IDENTIFICATION_PAGE), decode_designators)
        if not isinstance(named, Done):
            return named
        designator = best_designator(named.value)
        if designator is None or not who.value.is_connected:
            return Failed(words=f"{self.path}: no logical unit with a name of its own (page 83h) is here")
        serial = await self._ask(scsi.inquiry(page=SERIAL_NUMBER_PAGE), decode_serial_number)
        return Done(
            value=Identity(
                designator=designator.words,
                is_registered=designator.is_registered,
                vendor=who.value.vendor,
                product=who.value.product,
                revision=who.value.revision,
                serial_number=serial.value if isinstance(serial, Done) else "",
            ),
            attentions=who.attentions + named.attentions + serial.attentions,
        )

    async def capacity(self) -> Outcome[BlockCapacity]:
        """See `Lun`."""
        return await self._ask(scsi.read_capacity(), decode_capacity)

    async def capabilities(self) -> Outcome[Capabilities]:
        """See `Lun`."""
        return await self._ask(reserve_in(InAction.REPORT_CAPABILITIES), decode_capabilities)

    async def check(self) -> Outcome[None]:
        """See `Lun`."""
        return await self._ask(scsi.test_unit_ready(), _nothing)

    async def read_keys(self) -> Outcome[Keys]:
        """See `Lun`."""
        return await self._ask(reserve_in(InAction.READ_KEYS), decode_keys)

    async def read_reservation(self) -> Outcome[ReservationReading]:
        """See `Lun`."""
        return await self._ask(reserve_in(InAction.READ_RESERVATION), decode_reservation)

    async def read_full_status(self) -> Outcome[FullStatus]:
        """See `Lun`."""
        return await self._ask(reserve_in(InAction.READ_FULL_STATUS), decode_full_status)

    async def register(self, *, key: int, existing: int | None, survives_power_loss: bool) -> Outcome[None]:
        """See `Lun`."""
        action = OutAction.REGISTER_AND_IGNORE_EXISTING_KEY if existing is None else OutAction.REGISTER
        return await self._out(
            ReserveOut(action=action, key=existing or 0, service_key=key, survives_power_loss=survives_power_loss)
        )

    async def reserve(self, *, key: int, type: ReservationType) -> Outcome[None]:  # noqa: A002
        """See `Lun`."""
        return await self._out(ReserveOut(action=OutAction.RESERVE, key=key, type=type))

    async def release(self, *, key: int, type: ReservationType) -> Outcome[None]:  # noqa: A002
        """See `Lun`."""
        return await self._out(ReserveOut(action=OutAction.RELEASE, key=key, type=type))

    async def preempt(self, *, key: int, victim: int, type: ReservationType, abort: bool) -> Outcome[None]:  # noqa: A002
        """See `Lun`."""
        action = OutAction.PREEMPT_AND_ABORT if abort else OutAction.PREEMPT
        return await self._out(ReserveOut(action=action, key=key, service_key=victim, type=type))

    async def clear(self, *, key: int) -> Outcome[None]:
        """See `Lun`."""
        return await self._out(ReserveOut(action=OutAction.CLEAR, key=key))

    async def read(self, *, block: int, count: int) -> Outcome[bytes]:
        """See `Lun`."""
        size = await self._block_size()
        if not isinstance(size, Done):
            return size
        wanted = count * size.value

        def whole(data: bytes) -> bytes:
            if len(data) < wanted:
                raise MalformedReply(f"READ: {len(data)} bytes came instead of {wanted}")
            return data

        command = scsi.read(block=block, count=count, block_bytes=size.value)
        return await self._ask(command, whole, size.attentions)

    async def write(self, *, block: int, data: bytes) -> Outcome[None]:
        """See `Lun`."""
        size = await self._block_size()
        if not isinstance(size, Done):
            return size
        if not data or len(data) % size.value:
            return Failed(words=f"{self.path}: {len(data)} bytes are not whole blocks of {size.value}")
        command = scsi.write(block=block, data=data, block_bytes=size.value, is_forced=True)
        return await self._ask(command, _nothing, size.attentions)

    async def flush(self) -> Outcome[None]:
        """See `Lun`."""
        return await self._ask(scsi.synchronize_cache(), _nothing)

    async def reset(self) -> Outcome[None]:
        """See `Lun`."""
        reply = await self._transport.reset_logical_unit(timeout_ms=self._timeout_ms)
        return _judge("LOGICAL UNIT RESET", reply, _nothing, ())

    async def close(self) -> None:
        """See `Lun`."""
        await self._transport.close()

    async def _out(self, request: ReserveOut) -> Outcome[None]:
        return await self._ask(request.command(), _nothing)

    async def _block_size(self) -> Outcome[int]:
        if not self._block_bytes:
            capacity = await self.capacity()
            if not isinstance(capacity, Done):
                return capacity
            self._block_bytes = capacity.value.block_bytes
            return Done(value=self._block_bytes, attentions=capacity.attentions)
        return Done(value=self._block_bytes)

    async def _ask(
        self, command: Command, decode: Callable[[bytes], T], attentions: tuple[Attention, ...] = ()
    ) -> Outcome[T]:
        """Carry a command, repeated as the module says. `attentions` came before it and are reported with it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_ms / 1000
        while True:
            left_ms = max(1, int((deadline - loop.time()) * 1000))
            reply = await self._transport.execute(command, timeout_ms=left_ms)
            if isinstance(reply, Answer):
                attention = _attention(reply)
                if attention is not None and len(attentions) < ATTENTIONS_MAX:
                    attentions += (attention,)
                    continue
                is_busy = reply.status in (Status.BUSY, Status.TASK_SET_FULL)
                if is_busy and loop.time() + BUSY_PAUSE_MS / 1000 < deadline:
                    await asyncio.sleep(BUSY_PAUSE_MS / 1000)
                    continue
            return _judge(f"{self.path}: {command.words}", reply, decode, attentions)


def _nothing(_: bytes) -> None:
    """What a command without data brings."""


def _attention(answer: Answer) -> Attention | None:
    if answer.status != Status.CHECK_CONDITION:
        return None
    try:
        sense = decode_sense(answer.sense)
    except MalformedReply:
        return None
    return Attention(sense=sense) if sense.key is SenseKey.UNIT_ATTENTION else None


def _judge(what: str, reply: Reply, decode: Callable[[bytes], T], attentions: tuple[Attention, ...]) -> Outcome[T]:
    match reply:
        case Unsent():
            return Failed(words=f"{what} was not sent: {reply.words}", attentions=attentions)
        case Lost():
            return Unknown(words=f"{what} has no answer: {reply.words}", attentions=attentions)
        case Answer(status=Status.GOOD):
            try:
                return Done(value=decode(reply.data), attentions=attentions)
            except MalformedReply as error:
                return Failed(words=f"{what}: {error.message}", attentions=attentions)
        case Answer(status=Status.RESERVATION_CONFLICT):
            return Conflict(attentions=attentions)
        case Answer(status=Status.CHECK_CONDITION):
            return _judge_sense(what, reply.sense, decode, reply.data, attentions)
        case Answer(status=Status.BUSY | Status.TASK_SET_FULL | Status.ACA_ACTIVE):
            return Failed(words=f"{what}: {Status(reply.status).words}", attentions=attentions)
        case Answer():
            return Unknown(words=f"{what} ended with status {reply.status:#04x}", attentions=attentions)


_CERTAIN: Final = (
    SenseKey.NOT_READY,
    SenseKey.ILLEGAL_REQUEST,
    SenseKey.UNIT_ATTENTION,
    SenseKey.DATA_PROTECT,
)
"""Sense keys that are given before a command has any effect. With any other, some of it may have been carried out."""


def _judge_sense(
    what: str, data: bytes, decode: Callable[[bytes], T], data_in: bytes, attentions: tuple[Attention, ...]
) -> Outcome[T]:
    try:
        sense = decode_sense(data)
        if sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR, SenseKey.COMPLETED):
            return Done(value=decode(data_in), attentions=attentions)
    except MalformedReply as error:
        return Unknown(words=f"{what}: {error.message}", attentions=attentions)
    if sense.key in _CERTAIN:
        return Failed(words=f"{what}: {sense.words}", sense=sense, attentions=attentions)
    return Unknown(words=f"{what}: {sense.words}", attentions=attentions)
