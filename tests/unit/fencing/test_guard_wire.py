"""A request is understood completely or refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.fencing.guard import wire
from holdfast.fencing.guard.logic import Extend, Notice, Protect, Reply, State
from holdfast.fencing.guard.protocol import ErrorCode

UUID = "0000000a-0000-4000-8000-00000000000a"


def test_requests_are_understood() -> None:
    assert wire.parse(b'{"id": 7, "command": "hello"}') == wire.Question(id=7, event=Notice.HELLO)
    assert wire.parse(b'{"command": "extend", "deadline": 12}').event == Extend(deadline=12.0)
    protect = json.dumps({"command": "protect", "uuid": UUID.upper()}).encode()
    assert wire.parse(protect).event == Protect(uuid=UUID)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"command": "fly"}',
        b'{"command": "extend"}',
        b'{"command": "extend", "deadline": "5"}',
        b'{"command": "extend", "deadline": true}',
        b'{"command": "extend", "deadline": NaN}',
        b'{"command": "extend", "deadline": Infinity}',
        b'{"command": "protect", "uuid": ""}',
        b'{"command": "protect", "uuid": "web"}',
        b'{"command": "protect", "uuid": null}',
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(wire.BadRequest):
        wire.parse(line)


@given(st.binary())
def test_no_line_breaks_the_guard(line: bytes) -> None:
    try:
        wire.parse(line)
    except wire.BadRequest:
        return


def test_a_refusal_says_why() -> None:
    reply = Reply(error=ErrorCode.CONDEMNED, message="too late")
    answer = json.loads(wire.answer(3, reply, State()))
    assert (answer["id"], answer["ok"], answer["error"], answer["message"]) == (3, False, "condemned", "too late")
