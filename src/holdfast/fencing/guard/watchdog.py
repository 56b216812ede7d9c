"""The hardware watchdog: a device that resets the machine unless it is petted in time.

Rule of the file: opening the device pets it, so it is opened by the first pet and not before: a guard that is restarted
again and again while guests cannot be killed must not keep the hardware from firing. Only ``disarm`` switches it off.
Source: Linux Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path

_WDIOC_SETTIMEOUT = 0xC0045706
_WDIOC_GETTIMEOUT = 0x80045707


class Watchdog:
    """One watchdog device, or a FIFO that plays one (a lab reads it and cuts the node's power when pets stay away)."""

    def __init__(self, device: Path, timeout_s: int) -> None:
        self._device = device
        self._descriptor: int | None = None
        self._wanted_s = timeout_s
        self.timeout_s = timeout_s
        self.error = "not opened yet"

    def pet(self) -> None:
        """Restart the count-down; the first pet opens the device. After a failure (``error``) the hardware fires."""
        try:
            if self._descriptor is None:
                self._open()
            if self._descriptor is not None:
                os.write(self._descriptor, b"\n")
            self.error = ""
        except OSError as error:
            self.error = f"{self._device}: {error.strerror}"

    def disarm(self) -> None:
        """Switch the hardware off by the magic close. Drivers with ``nowayout`` ignore it and fire. Raises: OSError."""
        if self._descriptor is not None:
            os.write(self._descriptor, b"V")
            os.close(self._descriptor)
            self._descriptor = None

    def describe(self) -> dict[str, object]:
        """Return what ``hello`` tells of the device. ``error`` is empty only after a pet that worked."""
        return {"device": str(self._device), "timeout_s": self.timeout_s, "error": self.error}

    def _open(self) -> None:
        # Opened for reading too, a FIFO neither blocks nor breaks while its reader is away.
        is_fifo = stat.S_ISFIFO(self._device.stat().st_mode)
        flags = os.O_RDWR | os.O_NONBLOCK if is_fifo else os.O_WRONLY
        self._descriptor = os.open(self._device, flags | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._descriptor, _WDIOC_SETTIMEOUT, struct.pack("i", self._wanted_s))
            answer = fcntl.ioctl(self._descriptor, _WDIOC_GETTIMEOUT, struct.pack("i", 0))
            self.timeout_s = struct.unpack("i", answer)[0]
        except OSError:
            # Not settable (or a FIFO): the configured value is then the operator's statement of what the device does.
            self.timeout_s = self._wanted_s
