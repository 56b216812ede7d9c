"""The emulated hardware watchdog: a FIFO that is ``/dev/watchdog`` inside the node, read by the datacenter.

Rule of the file: the first write arms it, every write pets it, the character ``V`` as the last thing before closing
disarms it; armed and not petted for its timeout, it pulls the node's plug. The ioctls of a real device fail (ENOTTY),
so its timeout is fixed. Source: Linux Documentation/watchdog/watchdog-api.rst, "Magic Close feature".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path


class Watchdog:
    """One node's watchdog; lives from power on to power off."""

    def __init__(self, path: Path, timeout_s: float, bite: Callable[[], None]) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._bite = bite
        self._loop = asyncio.get_running_loop()
        self._last = b""
        self._timer: asyncio.TimerHandle | None = None
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._reader = self._open()

    @property
    def is_armed(self) -> bool:
        """Whether it will bite unless it is petted."""
        return self._timer is not None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until it bites; None when it is not armed."""
        return None if self._timer is None else max(0.0, self._timer.when() - self._loop.time())

    def close(self) -> None:
        """Take the device away; it never bites afterwards."""
        self._disarm()
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._path.unlink(missing_ok=True)

    def _open(self) -> int:
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(reader, self._read)
        return reader

    def _read(self) -> None:
        data = os.read(self._reader, 65536)
        if data:
            self._last = data[-1:]
            self._disarm()
            self._timer = self._loop.call_later(self._timeout_s, self._expire)
            return
        if self._last == b"V":
            self._disarm()
        old = self._reader  # at end of file it would poll as ready for ever; a new descriptor does not
        self._loop.remove_reader(old)
        self._reader = self._open()
        os.close(old)

    def _expire(self) -> None:
        self._timer = None
        self._bite()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
