"""The client for programs that do one thing and wait for it, such as the commands; needs no event loop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from holdfast.client.errors import AnswerNotUnderstood
from holdfast.client.lines import LINE_BYTES, Item, Result, decoded, no_answer, read, written
from holdfast.client.requests import Request, Stream
from holdfast.client.sockets import default_socket, not_connected
from holdfast.model.status import Progress

A = TypeVar("A")
TICK_S: Final = 1.0
_CONNECT_S: Final = 5.0
_CHUNK: Final = 256 * 1024


class BlockingClient:
    """Asks the daemon at one socket, one connection per request."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path if path is not None else default_socket()

    def call(
        self,
        request: Request[A],
        *,
        on_progress: Callable[[Progress], None] = lambda _step: None,
        on_waiting: Callable[[], None] = lambda: None,
    ) -> A:
        """Ask and return the answer. `on_waiting` is called for each second without a line.

        Raises: the daemon's errors; DaemonNotRunning, NoAnswer, ChangeNotAnswered.
        """
        with self._connected(request) as connection:
            for line in _lines(connection, request, request.silence_s, on_waiting):
                match read(line):
                    case Item(value):
                        on_progress(decoded(Progress, value))
                    case Result(value):
                        return decoded(request.answer, value)
        raise no_answer(request, "closed the connection without an answer")

    def follow(self, stream: Stream[A]) -> Iterator[A]:
        """Ask and yield items until the caller stops. Raises as `call` does, also when the daemon ends."""
        with self._connected(stream) as connection:
            for line in _lines(connection, stream, None, lambda: None):
                match read(line):
                    case Item(value):
                        yield decoded(stream.item, value)
                    case Result():
                        return
        raise no_answer(stream, "closed the connection")

    @contextmanager
    def _connected(self, request: Request[A] | Stream[A]) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_CONNECT_S)
            try:
                connection.connect(str(self._path))
            except OSError as error:
                raise not_connected(self._path, error) from error
            try:
                connection.sendall(written(request))
            except OSError as error:
                raise no_answer(request, f"did not take the request ({error})") from error
            yield connection


def _lines(
    connection: socket.socket, request: Request[A] | Stream[A], silence_s: float | None, on_waiting: Callable[[], None]
) -> Iterator[bytes]:
    """Yield whole lines; between them call `on_waiting` every second, and give up after `silence_s`."""
    connection.settimeout(TICK_S)
    buffer = bytearray()
    silent_s = 0.0
    while True:
        try:
            chunk = connection.recv(_CHUNK)
        except TimeoutError as error:
            silent_s += TICK_S
            if silence_s is not None and silent_s >= silence_s:
                raise no_answer(request, f"said nothing for {silent_s:g} s") from error
            on_waiting()
            continue
        except OSError as error:
            raise no_answer(request, f"broke the connection ({error})") from error
        if not chunk:
            return
        silent_s = 0.0
        buffer += chunk
        *whole, rest = bytes(buffer).split(b"\n")
        yield from whole
        buffer = bytearray(rest)
        if len(buffer) > LINE_BYTES:
            raise AnswerNotUnderstood(f"a line of the answer is longer than {LINE_BYTES} bytes")
