"""What can go wrong between a client and holdfastd, and how an error of holdfastd is raised again on this side.

HoldfastError
├── AnswerNotUnderstood     the daemon speaks otherwise than this client
├── InvalidInput
│   └── SocketPathInvalid   no socket can have this path
├── Refused
│   └── SocketForbidden     this user may not speak to the daemon
└── Unavailable
    ├── DaemonNotRunning    nobody listens at the socket; nothing was done
    ├── NoAnswer            a question was not answered
    └── OutcomeUnknown
        └── ChangeNotAnswered   a change was sent and no answer came
"""

from __future__ import annotations

from typing import Final

from holdfast.model.errors import (
    Conflict,
    HoldfastError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unavailable,
)

BRANCHES: Final[dict[str, type[HoldfastError]]] = {
    branch.code: branch
    for branch in (HoldfastError, InvalidInput, NotFound, Conflict, Refused, Unavailable, OutcomeUnknown)
}


class AnswerNotUnderstood(HoldfastError):
    """The daemon answered with something that this client cannot read: another version, or not holdfastd."""

    code = "answer-not-understood"


class SocketPathInvalid(InvalidInput):
    """The operating system takes no socket of this path."""

    code = "socket-path-invalid"


class SocketForbidden(Refused):
    """This user may not open the socket."""

    code = "socket-forbidden"


class DaemonNotRunning(Unavailable):
    """Nobody listens at the socket: nothing was asked and nothing done."""

    code = "daemon-not-running"


class NoAnswer(Unavailable):
    """The daemon took a question and did not answer it. It only asked, so asking again is harmless."""

    code = "no-answer"


class ChangeNotAnswered(OutcomeUnknown):
    """The daemon took a change and did not answer: it may be done, half way, or not begun."""

    code = "change-not-answered"


def answered_error(answer: dict[str, object]) -> HoldfastError:
    """Return the daemon's error as one of the tree, so that callers catch `NotFound` wherever it was raised.

    `kind` is the code of a branch of `holdfast.model.errors`, `code` that of the leaf. The leaf's class may live in a
    package that a client does not load, so a class of the same branch and code stands in for it.
    """
    code = str(answer.get("code", HoldfastError.code))
    retryable = bool(answer.get("retryable", False))
    otherwise = Unavailable if retryable else HoldfastError
    branch = BRANCHES.get(str(answer.get("kind", code)), otherwise)
    leaf: type[HoldfastError] = type(branch.__name__, (branch,), {"code": code, "retryable": retryable})
    return leaf(str(answer.get("message", code)), hint=str(answer.get("hint", "")))
