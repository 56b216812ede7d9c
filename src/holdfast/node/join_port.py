"""Where a node answers machines that want to join: its join port on every address that it has now."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class JoinPort:
    """Listens over TLS. An address that cannot be listened at is logged, and the others serve."""

    def __init__(self, *, port: int, context: ssl.SSLContext, answer: Answer) -> None:
        self._port = port
        self._context = context
        self._answer = answer
        self._servers: dict[str, asyncio.Server] = {}

    async def listen_at(self, addresses: tuple[str, ...]) -> None:
        """Listen at exactly these addresses from now on; where it listens already it goes on."""
        for gone in [address for address in self._servers if address not in addresses]:
            self._servers.pop(gone).close()
        for address in addresses:
            if address in self._servers:
                continue
            try:
                self._servers[address] = await asyncio.start_server(
                    self._answer, address, self._port, ssl=self._context
                )
            except OSError as error:
                log.error("join port %s:%d: %s", address, self._port, error)

    def close(self) -> None:
        """Listen nowhere any more."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
