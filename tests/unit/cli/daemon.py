"""A daemon for tests: the real socket and the real line protocol, with answers written by the test."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.model.errors import HoldfastError, NotFound
from holdfast.node.line_protocol import Result, answer

Params = dict[str, Any]


@dataclass
class Daemon:
    """Answers each method with what `answers` has for it, and keeps what was asked."""

    socket: Path
    answers: dict[str, Callable[[Params], AsyncGenerator[object, None]]] = field(default_factory=dict)
    asked: list[tuple[str, Params]] = field(default_factory=list)

    def on(self, method: str, result: object, *, items: tuple[object, ...] = ()) -> None:
        """Answer a method with items and a result; an error as the result is raised."""

        async def reply(_params: Params) -> AsyncGenerator[object, None]:
            for item in items:
                yield item
            if isinstance(result, HoldfastError):
                raise result
            yield Result(result)

        self.answers[method] = reply

    def stream(self, method: str, *items: object) -> None:
        """Answer a method with items, and end the connection after them as a daemon does that is stopped."""

        async def reply(_params: Params) -> AsyncGenerator[object, None]:
            for item in items:
                yield item

        self.answers[method] = reply

    def silence(self, method: str) -> None:
        """Take a request and never answer it."""

        async def reply(_params: Params) -> AsyncGenerator[object, None]:
            await asyncio.Event().wait()
            yield Result(None)

        self.answers[method] = reply

    async def handle(self, method: str, params: Params) -> AsyncGenerator[object, None]:
        """The handler that the line protocol calls."""
        self.asked.append((method, params))
        if method not in self.answers:
            raise NotFound(f"there is no method {method!r}")
        async for item in self.answers[method](params):
            yield item


@contextmanager
def running(socket: Path) -> Iterator[Daemon]:
    """Run a daemon on a thread of its own until the end of the block."""
    daemon = Daemon(socket)
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        server = await asyncio.start_unix_server(
            lambda reader, writer: answer(reader, writer, daemon.handle), str(socket)
        )
        ready.set()
        await stopped.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield daemon
    finally:
        stop[0]()
        thread.join(10)
        assert not thread.is_alive()
