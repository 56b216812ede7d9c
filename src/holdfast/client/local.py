"""The client for programs that run an event loop; asks exactly what the blocking one asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from holdfast.client.errors import AnswerNotUnderstood
from holdfast.client.lines import LINE_BYTES, Item, Result, decoded, no_answer, read, written
from holdfast.client.requests import Request, Stream
from holdfast.client.sockets import default_socket, not_connected
from holdfast.model.status import Progress

A = TypeVar("A")


class LocalClient:
    """Asks the daemon at one socket, one connection per request; any number of requests at once."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path if path is not None else default_socket()

    async def call(self, request: Request[A], *, on_progress: Callable[[Progress], None] = lambda _step: None) -> A:
        """Ask and return the answer.

        Raises: the daemon's errors; DaemonNotRunning, NoAnswer, ChangeNotAnswered.
        """
        async with self._asked(request) as reader:
            while line := await _line(reader, request, request.silence_s):
                match read(line):
                    case Item(value):
                        on_progress(decoded(Progress, value))
                    case Result(value):
                        return decoded(request.answer, value)
        raise no_answer(request, "closed the connection without an answer")

    async def follow(self, stream: Stream[A]) -> AsyncGenerator[A, None]:
        """Ask and yield items until the caller closes it. Raises as `call` does, also when the daemon ends."""
        async with self._asked(stream) as reader:
            while line := await _line(reader, stream, None):
                match read(line):
                    case Item(value):
                        yield decoded(stream.item, value)
                    case Result():
                        return
        raise no_answer(stream, "closed the connection")

    @asynccontextmanager
    async def _asked(self, request: Request[A] | Stream[A]) -> AsyncIterator[asyncio.StreamReader]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE_BYTES)
        except OSError as error:
            raise not_connected(self._path, error) from error
        try:
            try:
                writer.write(written(request))
                await writer.drain()
            except OSError as error:
                raise no_answer(request, f"did not take the request ({error})") from error
            yield reader
        finally:
            writer.close()


async def _line(reader: asyncio.StreamReader, request: Request[A] | Stream[A], silence_s: float | None) -> bytes:
    """Return the next line; empty at the end of the connection."""
    try:
        async with asyncio.timeout(silence_s):
            line = await reader.readline()
    except TimeoutError as error:
        raise no_answer(request, f"said nothing for {silence_s:g} s") from error
    except OSError as error:
        raise no_answer(request, f"broke the connection ({error})") from error
    except ValueError as error:
        raise AnswerNotUnderstood(f"a line of the answer is longer than {LINE_BYTES} bytes") from error
    return line if line.endswith(b"\n") else b""
