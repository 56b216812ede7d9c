"""What the guard promises, in numbers, and the words it speaks with holdfastd.

Rule of the file: every number that the proof "watchdog deadline" is computed from lives here, so that the guard that
keeps the promise and the node that relies on it cannot differ. Times are seconds of CLOCK_BOOTTIME, or named ``_ms``.

    guests dead       deadline + KILL_BOUND_MS                      if the kernel runs and SIGKILL works
    machine reset     deadline + KILL_BOUND_MS + watchdog time-out  whatever the software does

Only the second is a proof. The last pet is given before ``deadline + KILL_BOUND_MS`` unless all guests are dead, and
the hardware resets the machine one time-out after the last pet. Source: SAFE-2, docs/fencing.md.
"""

from __future__ import annotations

from enum import StrEnum

VERSION = 1
"""Version of the protocol; ``hello`` answers it and a client refuses any other."""

SOCKET_PATH = "/run/holdfast/guard.sock"
RECORD_PATH = "/run/holdfast/guard.json"

KILL_BOUND_MS = 500
"""Guests are dead at the latest this long after the deadline, when SIGKILL works; otherwise petting stops then."""

SCAN_INTERVAL_MS = 50
"""How often a guard without entitlement looks for guests that live, or were born late."""

WAKE_INTERVAL_MS = 250
"""The guard looks at the clock at least this often: the clock poll() sleeps by stops while the machine is suspended."""

PETS_PER_TIMEOUT = 3
"""How often the watchdog is petted within its time-out."""

MAX_EXTENSION_S = 300.0
"""A deadline further ahead than this is refused: it is a unit mistake, and would switch the protection off."""

MAX_LINE_BYTES = 4096
"""Longest request line; a client that sends more is disconnected."""


class ErrorCode(StrEnum):
    """Why the guard refused a request."""

    BAD_REQUEST = "bad-request"
    CONDEMNED = "condemned"
    """The deadline passed and not every guest is found dead yet: nothing revives the deadline before that."""
    NOT_RECORDED = "not-recorded"
    STILL_PROTECTED = "still-protected"
