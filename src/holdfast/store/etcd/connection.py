"""One HTTP/2 connection to one member, and what is certain about a call on it.

Rule of the file: every failure says whether the request can have reached the member (``Unanswered``) or certainly not
(``NotSent``). Each exchange runs in a task of its own, because grpclib ends a call on a lost connection by cancelling
the task that it runs in; so no exchange can outlast its deadline either.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic

from grpclib.client import Channel, Stream
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as GrpcProtocolError
from grpclib.protocol import H2Protocol
from h2.exceptions import ProtocolError as H2ProtocolError

from holdfast.model.errors import InvalidInput
from holdfast.store.etcd.calls import Call, Reply, Request

_LOST = (OSError, StreamTerminatedError, GrpcProtocolError, H2ProtocolError)
_HAS_LEADER = {"hasleader": "true"}
_STREAM_BACKLOG = 64  # messages that wait for a slow reader before HTTP/2 flow control slows the member down


class CallFailed(Exception):
    """The call brought no reply; the subclass says what is certain."""


class NotSent(CallFailed):
    """The request never left this node: the member did certainly not do it."""


class Unanswered(CallFailed):
    """The request was sent, and the connection was lost or the time ran out before an answer came."""


class Rejected(CallFailed):
    """The member answered with an error. What that proves depends on the error."""

    def __init__(self, address: str, message: str) -> None:
        super().__init__(f"{address}: {message}")
        self.message = message


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[ipv6]:port``. Raises: InvalidInput."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(f"{address!r} is not an address of a database member, which looks like 10.0.0.1:2379")
    return host.strip("[]"), int(port)


class Connection:
    """Calls to one member over one connection, which is opened when first needed and again after a loss."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.address = address
        host, port = split_address(address)
        self._channel = _AbortableChannel(host, port, ssl=context)

    async def call(self, call: Call[Request, Reply], request: Request, *, timeout_s: float) -> Reply:
        """Send one request and return the reply. Raises: NotSent, Unanswered, Rejected."""
        sent = asyncio.Event()
        exchange = asyncio.create_task(self._exchange(call, request, sent))
        try:
            await asyncio.wait((exchange,), timeout=timeout_s)
            if exchange.done():
                return exchange.result()
        except _LOST as error:
            reason = f"{self.address}: {error!r}"
            raise (Unanswered(reason) if sent.is_set() else NotSent(reason)) from error
        except GRPCError as error:
            raise Rejected(self.address, error.message or error.status.name) from error
        finally:
            await _end(exchange)
        if sent.is_set():
            raise Unanswered(f"{self.address}: no answer within {timeout_s:.1f} s")
        raise NotSent(f"{self.address}: no connection within {timeout_s:.1f} s")

    @asynccontextmanager
    async def stream(self, call: Call[Request, Reply], request: Request) -> AsyncGenerator[StreamReader[Reply], None]:
        """Open a stream with one request; the block reads the replies until either side ends it."""
        reader: StreamReader[Reply] = StreamReader()
        pump = asyncio.create_task(self._pump(call, request, reader))
        try:
            yield reader
        finally:
            await _end(pump)

    def drop(self) -> None:
        """Break the connection at once: calls under way end as ``Unanswered``, the next call connects anew."""
        self._channel.abort()

    def _open(self, call: Call[Request, Reply]) -> Stream[Request, Reply]:
        metadata = _HAS_LEADER if call.needs_leader else None
        return self._channel.request(call.path, call.cardinality, call.request, call.reply, metadata=metadata)

    async def _exchange(self, call: Call[Request, Reply], request: Request, sent: asyncio.Event) -> Reply:
        async with self._open(call) as stream:
            await stream.send_request()
            sent.set()
            await stream.send_message(request, end=True)
            reply = await stream.recv_message()
        if reply is None:
            raise GRPCError(Status.UNKNOWN, "the member ended the call without a reply")
        return reply

    async def _pump(self, call: Call[Request, Reply], request: Request, reader: StreamReader[Reply]) -> None:
        end: CallFailed = Unanswered(f"{self.address}: the member ended the stream")
        try:
            async with self._open(call) as stream:
                await stream.send_message(request)
                async for reply in stream:
                    await reader.queue.put(reply)
        except _LOST as error:
            end = Unanswered(f"{self.address}: {error!r}")
        except GRPCError as error:
            end = Rejected(self.address, error.message or error.status.name)
        await reader.queue.put(end)


class StreamReader(Generic[Reply]):
    """The replies of one stream, in order."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Reply | CallFailed] = asyncio.Queue(_STREAM_BACKLOG)

    async def read(self) -> Reply:
        """Return the next reply, whenever it comes. Raises: Unanswered, Rejected when the stream has ended."""
        reply = await self.queue.get()
        if isinstance(reply, CallFailed):
            raise reply
        return reply


class _AbortableChannel(Channel):
    """A channel that can be broken without the TLS farewell, which a silent peer would hold up for half a minute."""

    _transport: asyncio.Transport | None = None

    async def _create_connection(self) -> H2Protocol:
        self._transport, protocol = await self._loop.create_connection(
            self._protocol_factory, self._host, self._port, ssl=self._ssl
        )
        return protocol

    def abort(self) -> None:
        if self._connected and self._transport is not None:
            self._transport.abort()
        self.close()


async def _end(task: asyncio.Task[object]) -> None:
    """End a task for certain, whatever it ends with; its outcome was taken or no longer matters."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
