"""holdfastd's line to the guard.

Rule of the file: every call ends within ``answer_timeout_ms``, with an answer or with GuardUnavailable. All commands
may be repeated, so a connection that the guard closed (it was restarted) costs one quick retry.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from holdfast.fencing.errors import GuardUnavailable
from holdfast.fencing.guard.protocol import SOCKET_PATH, VERSION, ErrorCode
from holdfast.fencing.port import GuardReading, WatchdogReading

_ANSWER_BYTES = 1024 * 1024

Answer = dict[str, object]


class GuardClient:
    """A Guard reached through its unix socket. Connects when first needed, and again when the connection was lost."""

    def __init__(self, path: Path = Path(SOCKET_PATH), *, answer_timeout_ms: int = 500) -> None:
        self._path = path
        self._answer_timeout_s = answer_timeout_ms / 1000
        self._turn = asyncio.Lock()
        self._extending = asyncio.Lock()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._wanted = float("-inf")
        self._acknowledged = float("-inf")

    async def extend(self, until: float) -> bool:
        """Move the deadline; calls that arrive while one is under way are sent as one. Source: Guard.extend."""
        self._wanted = max(self._wanted, until)
        async with self._extending:
            if until > self._acknowledged:
                wanted = self._wanted
                # Read in this order a delay between the two clocks only makes the deadline earlier.
                deadline = time.clock_gettime(time.CLOCK_BOOTTIME) - asyncio.get_running_loop().time() + wanted
                answer = await self._call({"command": "extend", "deadline": deadline}, refusal=ErrorCode.CONDEMNED)
                if not answer["entitled"]:
                    return False
                self._acknowledged = max(self._acknowledged, wanted)
        return self._acknowledged > asyncio.get_running_loop().time()

    async def protect(self, uuid: str) -> bool:
        """Put a guest on the list. Source: Guard.protect."""
        answer = await self._call({"command": "protect", "uuid": uuid})
        return answer["entitled"] is True

    async def unprotect(self, uuid: str) -> bool:
        """Take a guest off the list. Source: Guard.unprotect."""
        answer = await self._call({"command": "unprotect", "uuid": uuid}, refusal=ErrorCode.CONDEMNED)
        return answer["ok"] is True

    async def state(self) -> GuardReading:
        """Ask the guard for everything. Source: Guard.state."""
        return _reading(await self._call({"command": "hello"}))

    async def disarm(self) -> bool:
        """End the guard. Source: Guard.disarm."""
        answer = await self._call({"command": "disarm"}, refusal=ErrorCode.STILL_PROTECTED)
        return answer["ok"] is True

    def close(self) -> None:
        """Close the connection. The guard goes on."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    async def _call(self, request: dict[str, object], *, refusal: ErrorCode | None = None) -> Answer:
        """Return the guard's answer if it is a yes, or the one refusal that the caller knows what to do with."""
        try:
            async with asyncio.timeout(self._answer_timeout_s), self._turn:
                answer = await self._converse(request)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise self._unavailable(str(error) or "no answer in time") from error
        if not answer["ok"] and answer["error"] != refusal:
            raise self._unavailable(f"{answer['error']}: {answer['message']}")
        return answer

    async def _converse(self, request: dict[str, object]) -> Answer:
        is_done = False
        try:
            if self._connection is not None:
                try:
                    answer = await self._exchange(request)
                    is_done = True
                    return answer
                except (OSError, EOFError):
                    self.close()
            await self._connect()
            answer = await self._exchange(request)
            is_done = True
            return answer
        finally:
            # A conversation that was broken off would give its answer to the next question.
            if not is_done:
                self.close()

    async def _connect(self) -> None:
        self._connection = await asyncio.open_unix_connection(self._path, limit=_ANSWER_BYTES)
        version = (await self._exchange({"command": "hello"})).get("version")
        if version != VERSION:
            raise self._unavailable(f"it speaks version {version}, wanted {VERSION}")

    async def _exchange(self, request: dict[str, object]) -> Answer:
        assert self._connection is not None
        reader, writer = self._connection
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        line = await reader.readuntil(b"\n")
        answer: Answer = json.loads(line)
        return answer

    def _unavailable(self, why: str) -> GuardUnavailable:
        hint = "see that holdfast-guard runs; no guest is started on this node until it answers"
        return GuardUnavailable(f"holdfast-guard at {self._path}: {why}", hint=hint)


def _reading(answer: Answer) -> GuardReading:
    deadline, watchdog, guests, alive, bound = (
        answer[key] for key in ("deadline", "watchdog", "guests", "alive", "kill_bound_ms")
    )
    assert isinstance(guests, list)
    assert isinstance(alive, list)
    assert isinstance(bound, int)
    offset = asyncio.get_running_loop().time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return GuardReading(
        until=deadline + offset if isinstance(deadline, float) else None,
        is_entitled=answer["entitled"] is True,
        has_expired=answer["expired"] is True,
        guests=frozenset(guests),
        alive=frozenset(alive),
        kill_bound_ms=bound,
        watchdog=WatchdogReading(**watchdog) if isinstance(watchdog, dict) else None,
    )
