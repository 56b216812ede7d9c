"""The guard's only loop: wait for a request, a signal or the time, and hand it on.

Rule of the file: one thread, one poll(), and no call that can wait for a client.
"""

from __future__ import annotations

import select
import signal
import socket

from holdfast.fencing.guard import wire
from holdfast.fencing.guard.executor import Executor, boottime
from holdfast.fencing.guard.logic import Notice, wake_at
from holdfast.fencing.guard.protocol import MAX_LINE_BYTES, WAKE_INTERVAL_MS

MAX_CLIENTS = 16


class Server:
    """The guard's socket and clock."""

    def __init__(self, executor: Executor, listener: socket.socket) -> None:
        self._executor = executor
        self._listener = listener
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._poll = select.poll()

    def run(self) -> None:
        """Serve until an orderly end: ``disarm`` or SIGTERM."""
        signals, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        self._poll.register(signals, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        while True:
            self._executor.take(Notice.WAKE)
            for descriptor, _ in self._poll.poll(self._sleep_ms()):
                if descriptor == signals.fileno():
                    self._executor.take(Notice.TERMINATE)
                elif descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._read(descriptor)
                if self._executor.has_ended:
                    return

    def _sleep_ms(self) -> float:
        due = wake_at(self._executor.state)
        if due is None:
            return WAKE_INTERVAL_MS
        return min(max(due - boottime(), 0) * 1000, WAKE_INTERVAL_MS)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            # The one that was silent longest: idle connections must not lock holdfastd out.
            self._drop(next(iter(self._clients)))
        client.setblocking(False)
        self._clients[client.fileno()] = (client, bytearray())
        self._poll.register(client, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        if descriptor not in self._clients:
            return
        client, buffer = self._clients[descriptor] = self._clients.pop(descriptor)
        try:
            chunk = client.recv(MAX_LINE_BYTES)
        except OSError:
            chunk = b""
        buffer += chunk
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        is_good = bool(chunk) and len(rest) <= MAX_LINE_BYTES
        for line in lines:
            is_good = self._send(client, self._answer(line)) and is_good
        if not is_good:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor)[0].close()

    def _answer(self, line: bytes) -> bytes:
        try:
            question = wire.parse(line)
        except wire.BadRequest as error:
            return wire.refusal(str(error))
        reply = self._executor.take(question.event)
        if question.event is Notice.HELLO:
            watchdog = self._executor.watchdog
            return wire.introduction(question.id, self._executor.state, watchdog.describe() if watchdog else None)
        return wire.answer(question.id, reply, self._executor.state)

    def _send(self, client: socket.socket, line: bytes) -> bool:
        try:
            return client.send(line) == len(line)
        except OSError:
            return False
