"""Requests and replies on the guard's socket: one JSON object per line.

    {"id": 7, "command": "extend", "deadline": 123.5}  →  {"id": 7, "ok": true, "entitled": true, "deadline": 123.5, …}

Rule of the file: a request is understood completely or refused; nothing is guessed.
"""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple

from holdfast.fencing.guard.logic import Extend, Notice, Phase, Protect, Reply, Request, State, Unprotect
from holdfast.fencing.guard.protocol import VERSION, ErrorCode

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class BadRequest(Exception):
    """The line is not a request of this protocol."""


class Question(NamedTuple):
    """A request, with the number by which its sender recognises the answer."""

    id: int | None
    event: Request


def parse(line: bytes) -> Question:
    """Return the request in ``line``. Raises: BadRequest."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadRequest("not a JSON object")
    number = content.get("id")
    return Question(id=number if isinstance(number, int) else None, event=_event(content))


def _event(content: dict[str, object]) -> Request:
    match content.get("command"):
        case "hello":
            return Notice.HELLO
        case "extend":
            return Extend(deadline=_seconds(content.get("deadline")))
        case "protect":
            return Protect(uuid=_uuid(content.get("uuid")))
        case "unprotect":
            return Unprotect(uuid=_uuid(content.get("uuid")))
        case "disarm":
            return Notice.DISARM
        case other:
            raise BadRequest(f"unknown command {other!r}")


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRequest(f"deadline is {value!r}, wanted seconds of CLOCK_BOOTTIME")
    return float(value)


def _uuid(value: object) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value.lower()):
        raise BadRequest(f"uuid is {value!r}, wanted 8-4-4-4-12 hexadecimal digits")
    return value.lower()


def refusal(message: str) -> bytes:
    """Return the reply to a line that was no request."""
    return _line({"id": None, "ok": False, "error": ErrorCode.BAD_REQUEST, "message": message})


def answer(number: int | None, reply: Reply, state: State) -> bytes:
    """Return the reply to any request but ``hello``: done or not, and whether the node is entitled now."""
    return _line(_head(number, reply, state))


def introduction(number: int | None, state: State, watchdog: dict[str, object] | None) -> bytes:
    """Return the reply to ``hello``: all there is to know."""
    deaths = [{"uuid": death.victim.uuid, "pid": death.victim.pid, "at": death.at} for death in state.deaths]
    details = {
        "version": VERSION,
        "kill_bound_ms": round(state.kill_bound_s * 1000),
        "watchdog": watchdog,
        "guests": sorted(state.guests),
        "alive": sorted({victim.uuid for victim in state.alive}),
        "deaths": deaths,
    }
    return _line(_head(number, Reply(), state) | details)


def _head(number: int | None, reply: Reply, state: State) -> dict[str, object]:
    return {
        "id": number,
        "ok": reply.error is None,
        "error": reply.error,
        "message": reply.message,
        "phase": state.phase,
        "entitled": state.phase is Phase.ENTITLED,
        "expired": state.phase in (Phase.KILLING, Phase.QUIET),
        "deadline": state.deadline,
    }


def _line(content: dict[str, object]) -> bytes:
    return json.dumps(content).encode() + b"\n"
