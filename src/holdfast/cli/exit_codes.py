"""The exit codes of `holdfast`: stable, documented in docs/cli.md and holdfast(1)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from holdfast.model.errors import HoldfastError, InvalidInput, NotFound, OutcomeUnknown, Unavailable


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    NO_ANSWER = 4
    OUTCOME_UNKNOWN = 5
    INTERRUPTED = 130


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "done; for questions: answered, whatever the answer says",
    ExitCode.FAILED: "refused by a rule of the cluster, or failed",
    ExitCode.INVALID: "wrong usage, or a value that cannot be used",
    ExitCode.NOT_FOUND: "the named node, role or disk does not exist",
    ExitCode.NO_ANSWER: "the daemon or the cluster database does not answer; nothing was done, trying again may help",
    ExitCode.OUTCOME_UNKNOWN: "the answer is missing: it may be done or not; look before asking again",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
}


def exit_code_of(error: HoldfastError) -> ExitCode:
    """Return the exit code of an error, by its branch of the tree of errors."""
    match error:
        case OutcomeUnknown():
            return ExitCode.OUTCOME_UNKNOWN
        case Unavailable() if error.retryable:
            return ExitCode.NO_ANSWER
        case NotFound():
            return ExitCode.NOT_FOUND
        case InvalidInput():
            return ExitCode.INVALID
    return ExitCode.FAILED
