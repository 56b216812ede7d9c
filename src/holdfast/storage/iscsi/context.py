"""One libiscsi context on the running event loop: calls go in, answers come back as futures.

Rule of the file: the library never waits and never reconnects. A connection that ends, ends the context: every answer
that is still open is None, and a new context must be made. Only the thread of the event loop may come here.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.iscsi.library import CommandCallback, libiscsi


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryReply:
    """What a callback brought: a status, and whatever its reader made of the data."""

    status: int
    value: Any = None


@dataclass(slots=True, kw_only=True)
class _Pending:
    """An open answer. `keep` holds what the library still points at; `read` is called while its data is valid."""

    answer: asyncio.Future[LibraryReply | None]
    read: Callable[[int], Any]
    keep: object = field(repr=False)


class IscsiContext:
    """A connection to one portal at most once. Raises InitiatorMissing when the library is not there."""

    def __init__(self, initiator: str) -> None:
        self._library = libiscsi()
        self._handle: int | None = self._library.iscsi_create_context(initiator.encode())
        if not self._handle:
            raise LunUnreachable("libiscsi has no memory for another session")
        self._library.iscsi_set_noautoreconnect(self._handle, 1)
        self._library.iscsi_set_tcp_syncnt(self._handle, 1)
        self._pending: dict[int, _Pending] = {}
        self._count = 0
        self._callback = CommandCallback(self._reply)
        self._fd = -1
        self._watched = 0

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._handle is not None

    @property
    def error(self) -> str:
        """What the library says of the last failure."""
        text = self._library.iscsi_get_error(self._handle) if self._handle is not None else None
        return text.decode("utf-8", "replace") if text else "the connection ended"

    @property
    def redirection(self) -> str:
        """The portal to which the target sent us; empty when it did not."""
        text = self._library.iscsi_get_target_address(self._handle) if self._handle is not None else None
        return text.decode().split(",")[0] if text else ""

    def set_chap(self, chap: Chap) -> None:
        """Authenticate when logging in, and have the target do so when it is to."""
        self.call("iscsi_set_initiator_username_pwd", chap.user.encode(), chap.password.encode())
        if chap.target_user:
            self.call("iscsi_set_target_username_pwd", chap.target_user.encode(), chap.target_password.encode())

    def call(self, name: str, *arguments: object) -> int:
        """Make a call that answers at once."""
        return int(getattr(self._library, name)(self._handle, *arguments) or 0)

    def start(
        self,
        name: str,
        *,
        before: tuple[object, ...] = (),
        after: tuple[object, ...] = (),
        read: Callable[[int], Any] = lambda _: None,
        keep: object = None,
    ) -> asyncio.Future[LibraryReply | None]:
        """Make a call that answers later: ``name(context, *before, callback, *after, number)``.

        None when the connection ended before the answer. Raises LunUnreachable when nothing was sent.
        """
        self._count += 1
        number = self._count
        answer: asyncio.Future[LibraryReply | None] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(answer=answer, read=read, keep=keep)
        function = getattr(self._library, name)
        if self._handle is None or function(self._handle, *before, self._callback, *after, number) < 0:
            del self._pending[number]
            raise LunUnreachable(f"{name}: {self.error}")
        self._watch()
        return answer

    def close(self) -> None:
        """Close the connection at once, without logging out; what is open is answered by None."""
        self._unwatch()
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.iscsi_destroy_context(handle)
        pending, self._pending = self._pending, {}
        for item in pending.values():
            if not item.answer.done():
                item.answer.set_result(None)

    def _reply(self, _: int, status: int, data: int, number: int) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            return
        value = pending.read(data or 0)
        if not pending.answer.done():
            pending.answer.set_result(LibraryReply(status=status, value=value))

    def _service(self, event: int) -> None:
        if self._handle is None:
            return
        if self._library.iscsi_service(self._handle, event) < 0:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        """Have the loop watch what the library waits for now."""
        if self._handle is None:
            return
        fd, wanted = self._library.iscsi_get_fd(self._handle), self._library.iscsi_which_events(self._handle)
        if fd != self._fd:
            self._unwatch()
            self._fd = fd
        if fd < 0 or wanted == self._watched:
            return
        loop = asyncio.get_running_loop()
        for event, add, remove in (
            (select.POLLIN, loop.add_reader, loop.remove_reader),
            (select.POLLOUT, loop.add_writer, loop.remove_writer),
        ):
            if wanted & event and not self._watched & event:
                add(fd, self._service, event)
            elif self._watched & event and not wanted & event:
                remove(fd)
        self._watched = wanted & (select.POLLIN | select.POLLOUT)

    def _unwatch(self) -> None:
        if self._fd >= 0 and self._watched:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
        self._fd, self._watched = -1, 0
