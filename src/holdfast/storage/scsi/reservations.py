"""PERSISTENT RESERVE OUT and IN as values and bytes, both ways.

Rule of the file: a reply that announces more than came is an error, never a shorter list.
Source: SPC-4 clauses 6.15 (IN), 6.16 (OUT), 5.13 (what they mean).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from holdfast.storage.scsi.bytes import field, number
from holdfast.storage.scsi.command import Command, OperationCode
from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.transport_id import transport_name

REPLY_BYTES: Final = 16_384
"""Room for two thousand keys, or three hundred registrations with their names."""


class ReservationType(IntEnum):
    """What a reservation keeps others from. Values are the standard's."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8

    @property
    def is_all_registrants(self) -> bool:
        """Whether everyone who is registered holds the reservation."""
        return self >= ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS

    @property
    def admits_registrants(self) -> bool:
        """Whether everyone who is registered may write, and nobody else."""
        return self >= ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY

    @property
    def forbids_reading(self) -> bool:
        """Whether those who may not write may not read either."""
        return self in (3, 6, 8)

    @property
    def words(self) -> str:
        """Its name, for people."""
        return self.name.replace("_", " ").lower()


class OutAction(IntEnum):
    """Service actions of PERSISTENT RESERVE OUT."""

    REGISTER = 0
    RESERVE = 1
    RELEASE = 2
    CLEAR = 3
    PREEMPT = 4
    PREEMPT_AND_ABORT = 5
    REGISTER_AND_IGNORE_EXISTING_KEY = 6


class InAction(IntEnum):
    """Service actions of PERSISTENT RESERVE IN."""

    READ_KEYS = 0
    READ_RESERVATION = 1
    REPORT_CAPABILITIES = 2
    READ_FULL_STATUS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveOut:
    """A PERSISTENT RESERVE OUT. Scope is always the logical unit.

    key             the key this nexus is registered with; 0 when it is not.
    service_key     the new key of a register (0 unregisters), or the key to preempt.
    type            of the reservation; None where the action has none (register, clear).
    survives_power_loss   APTPL: the target keeps registrations through a loss of power. Only looked at by registers.
    all_target_ports      register with all ports of the target at once. Only looked at by registers.
    """

    action: OutAction
    key: int = 0
    service_key: int = 0
    type: ReservationType | None = None
    survives_power_loss: bool = False
    all_target_ports: bool = False

    def command(self) -> Command:
        """Return it as bytes."""
        flags = self.all_target_ports << 2 | self.survives_power_loss
        parameters = self.key.to_bytes(8) + self.service_key.to_bytes(8) + bytes(4) + bytes((flags, 0, 0, 0))
        cdb = bytes((OperationCode.PERSISTENT_RESERVE_OUT, self.action, self.type or 0, 0, 0))
        return Command(cdb=cdb + len(parameters).to_bytes(4) + b"\0", data_out=parameters)


def decode_reserve_out(command: Command) -> ReserveOut:
    """Read a PERSISTENT RESERVE OUT, as a target does. Raises MalformedReply on values the standard does not know."""
    what = "PERSISTENT RESERVE OUT"
    scope_and_type = number(command.cdb, 2, 1, what)
    flags = number(command.data_out, 20, 1, what)
    if scope_and_type >> 4 or len(command.data_out) != 24:
        raise MalformedReply(f"{what}: scope {scope_and_type >> 4}, {len(command.data_out)} bytes; 0 and 24 are known")
    try:
        action = OutAction(number(command.cdb, 1, 1, what) & 0x1F)
        kind = ReservationType(scope_and_type) if scope_and_type else None
    except ValueError as error:
        raise MalformedReply(f"{what}: {error}") from error
    return ReserveOut(
        action=action,
        key=number(command.data_out, 0, 8, what),
        service_key=number(command.data_out, 8, 8, what),
        type=kind,
        survives_power_loss=bool(flags & 1),
        all_target_ports=bool(flags & 4),
    )


@lru_cache
def reserve_in(action: InAction) -> Command:
    """Ask for keys, the reservation, capabilities or the full status."""
    cdb = bytes((OperationCode.PERSISTENT_RESERVE_IN, action)) + bytes(5) + REPLY_BYTES.to_bytes(2) + b"\0"
    return Command(cdb=cdb, data_in_bytes=REPLY_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who is registered. One key appears once per nexus that is registered with it.

    generation    counts changes of registrations since the target was switched on. Reserving does not count.
    """

    generation: int
    keys: tuple[int, ...]

    def encode(self) -> bytes:
        """Return the parameter data of READ KEYS."""
        return _with_header(self.generation, b"".join(key.to_bytes(8) for key in self.keys))


def decode_keys(data: bytes) -> Keys:
    """Read the parameter data of READ KEYS. Raises MalformedReply."""
    generation, body = _body(data, "READ KEYS")
    if len(body) % 8:
        raise MalformedReply(f"READ KEYS: {len(body)} bytes of keys are not a multiple of 8")
    return Keys(generation=generation, keys=tuple(int.from_bytes(body[at : at + 8]) for at in range(0, len(body), 8)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A reservation in force. `key` is its holder's, and 0 when all registrants hold it."""

    key: int
    type: ReservationType


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationReading:
    """The answer to READ RESERVATION; None when nobody reserved."""

    generation: int
    reservation: Reservation | None

    def encode(self) -> bytes:
        """Return the parameter data of READ RESERVATION."""
        held = self.reservation
        body = b"" if held is None else held.key.to_bytes(8) + bytes(5) + bytes((held.type, 0, 0))
        return _with_header(self.generation, body)


def decode_reservation(data: bytes) -> ReservationReading:
    """Read the parameter data of READ RESERVATION. Raises MalformedReply."""
    generation, body = _body(data, "READ RESERVATION")
    if not body:
        return ReservationReading(generation=generation, reservation=None)
    key, kind = number(body, 0, 8, "READ RESERVATION"), number(body, 13, 1, "READ RESERVATION")
    return ReservationReading(
        generation=generation, reservation=Reservation(key=key, type=_type(kind, "READ RESERVATION"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a target can do about reservations. `types` are the ones it names, or all when it does not say.

    can_survive_power_loss    it can keep registrations through a loss of power.
    survives_power_loss       it does so now: the newest registration asked for it.
    """

    can_survive_power_loss: bool
    survives_power_loss: bool
    can_register_all_target_ports: bool
    types: frozenset[ReservationType]

    def encode(self) -> bytes:
        """Return the parameter data of REPORT CAPABILITIES."""
        can = self.can_register_all_target_ports << 2 | self.can_survive_power_loss
        mask = sum(1 << (kind + 8 if kind < 8 else 0) for kind in self.types)
        return (8).to_bytes(2) + bytes((can, 0x80 | self.survives_power_loss)) + mask.to_bytes(2) + bytes(2)


def decode_capabilities(data: bytes) -> Capabilities:
    """Read the parameter data of REPORT CAPABILITIES. Raises MalformedReply."""
    what = "REPORT CAPABILITIES"
    can, does, mask = number(data, 2, 1, what), number(data, 3, 1, what), number(data, 4, 2, what)
    says_types = bool(does & 0x80)
    named = frozenset(kind for kind in ReservationType if mask & 1 << (kind + 8 if kind < 8 else 0))
    return Capabilities(
        can_survive_power_loss=bool(can & 1),
        survives_power_loss=bool(does & 1),
        can_register_all_target_ports=bool(can & 4),
        types=named if says_types else frozenset(ReservationType),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One nexus that is registered. `initiator` is the name of its port, in hexadecimal where there is no other."""

    key: int
    is_holder: bool
    type: ReservationType | None
    target_port: int
    initiator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FullStatus:
    """Every registration with the initiator it belongs to."""

    generation: int
    registrations: tuple[Registration, ...]


def encode_full_status(generation: int, registrations: Iterable[tuple[Registration, bytes]]) -> bytes:
    """Return the parameter data of READ FULL STATUS; each registration comes with its TransportID."""
    body = b""
    for item, transport_id in registrations:
        body += item.key.to_bytes(8) + bytes(4) + bytes((item.is_holder, item.type or 0)) + bytes(4)
        body += item.target_port.to_bytes(2) + len(transport_id).to_bytes(4) + transport_id
    return _with_header(generation, body)


def decode_full_status(data: bytes) -> FullStatus:
    """Read the parameter data of READ FULL STATUS. Raises MalformedReply."""
    what = "READ FULL STATUS"
    generation, body = _body(data, what)
    found: list[Registration] = []
    at = 0
    while at < len(body):
        is_holder = bool(number(body, at + 12, 1, what) & 1)
        length = number(body, at + 20, 4, what)
        registration = Registration(
            key=number(body, at, 8, what),
            is_holder=is_holder,
            type=_type(number(body, at + 13, 1, what), what) if is_holder else None,
            target_port=number(body, at + 18, 2, what),
            initiator=transport_name(field(body, at + 24, length, what)),
        )
        found.append(registration)
        at += 24 + length
    return FullStatus(generation=generation, registrations=tuple(found))


def _with_header(generation: int, body: bytes) -> bytes:
    return generation.to_bytes(4) + len(body).to_bytes(4) + body


def _body(data: bytes, what: str) -> tuple[int, bytes]:
    generation, length = number(data, 0, 4, what), number(data, 4, 4, what)
    return generation, field(data, 8, length, what)


def _type(scope_and_type: int, what: str) -> ReservationType:
    if scope_and_type >> 4:
        raise MalformedReply(f"{what}: scope {scope_and_type >> 4} is not the logical unit")
    try:
        return ReservationType(scope_and_type)
    except ValueError as error:
        raise MalformedReply(f"{what}: type {scope_and_type} is not a reservation's") from error
