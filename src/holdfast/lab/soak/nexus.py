"""The one iSCSI session of a light node, as its host bus adapter keeps it: logged in anew when it ended.

Rule of the file: nothing is registered here, and nothing that was sent is sent again. Source: docs/lab.md, "Storage".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import IscsiAddress
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.scsi.command import Command
from holdfast.storage.transport import Reply, Transport, Unsent

LOGIN_MS: Final = 1000
AGAIN_S: Final = 0.1


class Nexus:
    """A session for all LUNs of a node. `run` keeps it."""

    def __init__(self, address: IscsiAddress) -> None:
        self._address = address
        self._session: IscsiSession | None = None

    async def run(self) -> None:
        """Log in, and again when the session ended, until cancelled."""
        while True:
            if self._session is None or not self._session.is_open:
                self._session = None
                with suppress(LunUnreachable):
                    self._session = await IscsiSession.connect(self._address, timeout_ms=LOGIN_MS)
            await asyncio.sleep(AGAIN_S)

    def lun(self, number: int) -> Transport:
        """The way to one logical unit, over whichever session there is."""
        return _Way(self, number)

    @property
    def session(self) -> IscsiSession | None:
        """The session, while there is one."""
        return self._session if self._session is not None and self._session.is_open else None


class _Way:
    """One logical unit of a nexus."""

    def __init__(self, nexus: Nexus, number: int) -> None:
        self._nexus = nexus
        self._number = number

    @property
    def path(self) -> str:
        """See `Transport`."""
        return f"lun {self._number}"

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        session = self._nexus.session
        if session is None:
            return Unsent(words="there is no session")
        return await session.execute(self._number, command, timeout_ms=timeout_ms)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        session = self._nexus.session
        if session is None:
            return Unsent(words="there is no session")
        return await session.reset_logical_unit(self._number, timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`. The nexus stays."""
