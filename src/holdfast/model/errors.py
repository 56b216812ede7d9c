"""The errors of Holdfast, drawn as a tree.

Rule of the file: every error that can reach a person has a stable code, says what was seen and what to do next,
and knows whether trying again can help. Packages add their own leaves in their ``errors.py``.

    HoldfastError
    ├── InvalidInput          what was given cannot be used as it is
    ├── NotFound              the named thing does not exist
    ├── Conflict              the named thing exists already, or has changed meanwhile
    ├── Refused               a rule of the cluster forbids it now; the message carries the reasons
    └── Unavailable           a part that is needed does not answer now
        └── OutcomeUnknown    it may have been done, or not; nobody can tell yet
"""

from __future__ import annotations

from typing import ClassVar


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(HoldfastError):
    """A value given by a person or a file is not usable; the message names the value and what is wanted."""

    code = "invalid-input"


class NotFound(HoldfastError):
    """The named thing does not exist."""

    code = "not-found"


class Conflict(HoldfastError):
    """The named thing exists already or changed between reading and writing."""

    code = "conflict"


class Refused(HoldfastError):
    """A rule of the cluster forbids the request now; the message says which and why."""

    code = "refused"


class Unavailable(HoldfastError):
    """A needed part (database, hypervisor, device) does not answer; nothing was done."""

    code = "unavailable"
    retryable = True


class OutcomeUnknown(Unavailable):
    """The request was sent and no answer came: it may or may not have been done.

    Invariant: never treated as "not done" or as "stopped". Source: SAFE-2.
    """

    code = "outcome-unknown"
