"""One iSCSI session to one target: one nexus for all of its logical units.

Rule of the file: a session is made once and never reconnects by itself. A registration belongs to it, so what comes
after its end is for its owner to decide. No SCSI command is sent on the way, so that no unit attention is swallowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, byref, c_uint32, cast
from typing import Final, Self

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import IscsiAddress
from holdfast.storage.iscsi.context import IscsiContext, LibraryReply
from holdfast.storage.iscsi.library import (
    NO_TASK,
    STATUS_CANCELLED,
    TASK_LUN_RESET,
    XFER_NONE,
    XFER_READ,
    XFER_WRITE,
    IscsiData,
    libiscsi,
    task_data,
)
from holdfast.storage.iscsi.login import CONNECT_TIMEOUT_MS, Redirected, log_in
from holdfast.storage.scsi.command import Command
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer, Lost, Reply, Unsent

PORTALS_TRIED_MAX: Final = 16
"""Portals and redirections together, so that two portals that redirect to each other end, too."""
LOGOUT_TIMEOUT_MS: Final = 1000
UNANSWERED_MAX: Final = 32
"""Commands in a row that were given up; a session that answers none of them is cut, or they would pile up in it."""


class IscsiSession:
    """A session that is logged in; made by `connect`."""

    def __init__(self, address: IscsiAddress, portal: str, context: IscsiContext) -> None:
        self.address = address
        self.portal = portal
        self._context = context
        self._unanswered = 0

    @classmethod
    async def connect(cls, address: IscsiAddress, *, timeout_ms: int = CONNECT_TIMEOUT_MS) -> Self:
        """Log in through the first portal that lets us, within `timeout_ms` each.

        Raises LunUnreachable with what each portal said, InitiatorMissing.
        """
        said: list[str] = []
        portals = list(address.portals)
        while portals and len(said) < PORTALS_TRIED_MAX:
            portal = portals.pop(0)
            context = IscsiContext(address.initiator)
            try:
                context.call("iscsi_set_targetname", address.target.encode())
                context.call("iscsi_set_isid_random", address.isid_seed, address.session)
                await log_in(context, portal, chap=address.chap, timeout_ms=timeout_ms)
                return cls(address, portal, context)
            except Redirected as error:
                portals.insert(0, error.portal)
                said.append(error.message)
            except LunUnreachable as error:
                said.append(error.message)
        raise LunUnreachable(f"{address.target} cannot be reached: {'; '.join(said)}")

    @property
    def is_open(self) -> bool:
        """Whether the connection is up, as far as the last thing heard of it tells."""
        return self._context.is_open

    def lun(self, number: int) -> IscsiPath:
        """Return the way to one logical unit; closing it leaves the session alone."""
        return IscsiPath(self, number)

    async def execute(self, lun: int, command: Command, *, timeout_ms: int) -> Reply:
        """Carry a command. When time runs out, the target is told to abort it, and the outcome stays unknown."""
        if not self._context.is_open:
            return Unsent(words="the session has ended")
        task, keep, data = _task(command)

        def read(_: int) -> bytes:
            """Called once, whatever becomes of the task: the library is done with it."""
            try:
                return task_data(task)
            finally:
                libiscsi().scsi_free_scsi_task(task)

        try:
            answer = self._context.start(
                "iscsi_scsi_command_async", before=(lun, task), after=(data,), read=read, keep=keep
            )
        except LunUnreachable as error:
            libiscsi().scsi_free_scsi_task(task)
            return Unsent(words=error.message)
        with self._aborting(task, answer):
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    reply = await asyncio.shield(answer)
            except TimeoutError:
                return Lost(words=f"none within {timeout_ms} ms")
        return _answer(reply)

    async def reset_logical_unit(self, lun: int, *, timeout_ms: int) -> Reply:
        """LOGICAL UNIT RESET, without touching what this session has under way on other units."""
        try:
            answer = self._context.start(
                "iscsi_task_mgmt_async", before=(lun, TASK_LUN_RESET, NO_TASK, 0), read=_management_response
            )
            async with asyncio.timeout(timeout_ms / 1000):
                reply = await answer
        except LunUnreachable as error:
            return Unsent(words=error.message)
        except TimeoutError:
            return Lost(words=f"none within {timeout_ms} ms")
        if reply is None or reply.status != Status.GOOD:
            return Lost(words="the session ended")
        if reply.value:
            return Unsent(words=f"the target does not reset the logical unit (response {reply.value})")
        return Answer(status=Status.GOOD)

    async def close(self) -> None:
        """Log out, or cut the connection when the target does not answer; registrations stay."""
        try:
            if self._context.is_open:
                with suppress(TimeoutError, LunUnreachable):
                    async with asyncio.timeout(LOGOUT_TIMEOUT_MS / 1000):
                        await self._context.start("iscsi_logout_async")
        finally:
            self._context.close()

    def drop(self) -> None:
        """Cut the connection without a word, as a host does that dies."""
        self._context.close()

    @contextmanager
    def _aborting(self, task: int, answer: asyncio.Future[LibraryReply | None]) -> Iterator[None]:
        """Tell the target to abort a command that nobody waits for any more."""
        try:
            yield
        finally:
            if answer.done():
                self._unanswered = 0
            elif self._unanswered < UNANSWERED_MAX:
                self._unanswered += 1
                with suppress(LunUnreachable):
                    self._context.start("iscsi_task_mgmt_abort_task_async", before=(task,))
            else:
                self._context.close()


class IscsiPath:
    """A `Transport`: one logical unit of a session."""

    def __init__(self, session: IscsiSession, lun: int) -> None:
        self._session = session
        self._lun = lun

    @property
    def path(self) -> str:
        """See `Transport`."""
        return f"{self._session.address.target} lun {self._lun} at {self._session.portal}"

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self._session.execute(self._lun, command, timeout_ms=timeout_ms)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self._session.reset_logical_unit(self._lun, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. The session belongs to whoever connected it."""


def _task(command: Command) -> tuple[int, object, object]:
    """Return the library's task, what must be kept until its answer, and the data that goes out."""
    direction = XFER_WRITE if command.data_out else XFER_READ if command.data_in_bytes else XFER_NONE
    length = len(command.data_out) or command.data_in_bytes
    task = libiscsi().scsi_create_task(len(command.cdb), command.cdb, direction, length)
    if not command.data_out:
        return task, None, None
    data = IscsiData(size=len(command.data_out), data=command.data_out)
    return task, data, byref(data)


def _answer(reply: LibraryReply | None) -> Reply:
    if reply is None or reply.status >= STATUS_CANCELLED:
        return Lost(words="the session ended")
    if reply.status != Status.CHECK_CONDITION:
        return Answer(status=reply.status, data=reply.value)
    length = int.from_bytes(reply.value[:2])  # RFC 7143 clause 11.4.7.2
    return Answer(status=reply.status, sense=reply.value[2 : 2 + length])


def _management_response(data: int) -> int:
    return int(cast(data, POINTER(c_uint32)).contents.value) if data else 0
