"""Shared storage: the disks of the guests, the way there, and what every guest writes.

Rule of the file: a guest signs each record with its run, so that a disk is a witness of its own: whatever lands there
of an earlier run after a newer one's first record was not kept off. Source: SAFE-1.

A guest begins and ends with a record and writes one a second. While its node does not reach the storage, a record waits
in the machine, and no kill ends its process: it hangs in the kernel. On the wire a record takes up to `longest_s`; it
lands before its process ends, for the kernel waits for it. Only with the power is it cut off: then it lands late, is
torn, or is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Final

from holdfast.sim.loop import VirtualLoop
from holdfast.sim.truth import GuestRun, Truth

WRITE_INTERVAL_S: Final = 1.0
LONGEST_S: Final = 0.02
"""On the wire and in the storage. The fastest takeover after a power cut takes four times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a run wrote, numbered from 0, and when it landed. `is_torn`: only a part of it did."""

    run: GuestRun
    number: int
    landed: float
    is_torn: bool = False


@dataclass(slots=True)
class _Writer:
    """What one run has under way. `number` None: nothing. `is_on_wire` False: it waits in the machine."""

    run: GuestRun
    written: int = 0
    number: int | None = None
    is_on_wire: bool = False
    is_held: bool = False


@dataclass(slots=True)
class Storage:
    """The disks by the uuid of their guest, and who reaches them.

    can_write   whether a node's guests execute now.
    hold        makes the process of a guest on a node unkillable, or lets go of it.
    """

    loop: VirtualLoop
    truth: Truth
    chance: Random
    can_write: Callable[[str], bool]
    hold: Callable[[str, str, bool], None]
    disks: dict[str, list[Record]] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    longest_s: float = LONGEST_S
    _writers: dict[int, _Writer] = field(default_factory=dict)

    def start(self) -> None:
        """Let the guests write from now on."""
        self.truth.on_began, self.truth.on_ended = self._began, self._ended
        self._tick()

    def cut_off(self, node: str) -> None:
        """Let a node's guests wait for the storage. What is on the wire arrives."""
        self.unreachable.add(node)

    def reconnect(self, node: str) -> None:
        """Let what waits in a node go on."""
        self.unreachable.discard(node)
        for writer in tuple(self._writers.values()):
            if writer.run.node == node and writer.number is not None and not writer.is_on_wire:
                self._send(writer)

    def _tick(self) -> None:
        for writer in tuple(self._writers.values()):
            if self.can_write(writer.run.node) and not writer.run.is_suspended:
                self._write(writer)
        self.loop.call_later(WRITE_INTERVAL_S, self._tick, context=Context())

    def _began(self, run: GuestRun) -> None:
        self._writers[run.number] = writer = _Writer(run)
        self._write(writer)

    def _write(self, writer: _Writer) -> None:
        if writer.number is not None:
            return
        writer.number = writer.written
        writer.written += 1
        if writer.run.node in self.unreachable:
            self._hold(writer, is_held=True)
        else:
            self._send(writer)

    def _send(self, writer: _Writer) -> None:
        writer.is_on_wire = True
        self.loop.call_later(self._travel_s(), self._arrive, writer, writer.number, context=Context())

    def _arrive(self, writer: _Writer, number: int) -> None:
        if writer.number == number:
            self._land(writer)

    def _land(self, writer: _Writer, *, is_torn: bool = False) -> None:
        assert writer.number is not None
        record = Record(run=writer.run, number=writer.number, landed=self.loop.time(), is_torn=is_torn)
        self.disks.setdefault(writer.run.uuid, []).append(record)
        writer.number, writer.is_on_wire = None, False
        self._hold(writer, is_held=False)

    def _hold(self, writer: _Writer, *, is_held: bool) -> None:
        if writer.is_held is not is_held:
            writer.is_held = is_held
            self.hold(writer.run.node, writer.run.uuid, is_held)

    def _ended(self, run: GuestRun) -> None:
        writer = self._writers.pop(run.number, None)
        if writer is None:
            return
        if run.ended_by == "power lost":
            self._lose(writer)
        elif writer.is_on_wire:
            self._land(writer)

    def _lose(self, writer: _Writer) -> None:
        """The machine is gone: a record on the wire lands, in part, or not at all; one in the machine never does."""
        fate = self.chance.random()
        if not writer.is_on_wire or fate < 1 / 3:
            writer.number = None
        elif fate < 2 / 3:
            self._land(writer, is_torn=True)

    def _travel_s(self) -> float:
        return self.chance.uniform(0.0, self.longest_s)
