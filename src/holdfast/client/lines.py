"""The lines between a client and holdfastd: one request out, any number of items and one end back.

Rule of the file: no I/O; both clients write and read with it. Source: `holdfast.node.line_protocol`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.client.errors import AnswerNotUnderstood, ChangeNotAnswered, NoAnswer, answered_error
from holdfast.client.requests import Request, Stream
from holdfast.model.errors import Unavailable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

A = TypeVar("A")
LINE_BYTES: Final = 64 * 1024 * 1024
"""More than the status of 1,000 nodes and 10,000 roles takes."""
_ADAPTERS: Final[dict[Any, TypeAdapter[Any]]] = {}


@dataclass(frozen=True, slots=True)
class Item:
    """A line that is not the last."""

    value: object


@dataclass(frozen=True, slots=True)
class Result:
    """The last line, when all went well."""

    value: object


def written(request: Request[A] | Stream[A]) -> bytes:
    """Return the line that asks."""
    return json.dumps({"method": request.method, "params": request.params}).encode() + b"\n"


def read(line: bytes) -> Item | Result:
    """Read one line of the daemon. Raises: the daemon's error, when it is one; AnswerNotUnderstood."""
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise AnswerNotUnderstood(
            f"the answer is no JSON: {line[:80]!r}", hint="is this holdfastd's socket?"
        ) from error
    match answer:
        case {"item": value}:
            return Item(value)
        case {"result": value}:
            return Result(value)
        case {"error": dict(described)}:
            raise answered_error(described)
    raise AnswerNotUnderstood(f"not an answer of holdfastd: {line[:80]!r}", hint="is this holdfastd's socket?")


def decoded(kind: type[A], value: object) -> A:
    """Return an answer as its type; unknown fields of a newer daemon are left out. Raises: AnswerNotUnderstood."""
    from pydantic import ValidationError

    try:
        answer: A = _adapter(kind).validate_python(value)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise AnswerNotUnderstood(
            f"the answer of holdfastd has another form than expected: {faults}",
            hint="the daemon may have another version than this command: holdfast --version; restart holdfastd",
        ) from error
    return answer


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Pydantic is loaded by the first answer, so that a command's help does not pay for it."""
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def no_answer(request: Request[A] | Stream[A], what: str) -> Unavailable:
    """Return the error of a request whose answer is missing: what is known of it depends on what was asked."""
    if isinstance(request, Request) and request.changes:
        return ChangeNotAnswered(
            f"holdfastd {what}; whether {request.method} was done is not known",
            hint="look before asking again: holdfast status, holdfast events",
        )
    return NoAnswer(
        f"holdfastd {what} while asked for {request.method}", hint="try again; see: journalctl -u holdfastd"
    )
