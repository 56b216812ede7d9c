"""The two clients against a real socket: what they take for an answer, and what a missing answer means."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.daemon import Daemon, running
from tests.unit.cli.documents import EVENTS, EXPLANATIONS, STATUSES, WELL, role

from holdfast.client import requests
from holdfast.client.blocking import BlockingClient
from holdfast.client.errors import (
    AnswerNotUnderstood,
    ChangeNotAnswered,
    DaemonNotRunning,
    NoAnswer,
    SocketPathInvalid,
    answered_error,
)
from holdfast.client.local import LocalClient
from holdfast.client.requests import Request, Stream
from holdfast.model.errors import HoldfastError, InvalidInput, NotFound, OutcomeUnknown, Refused, Unavailable
from holdfast.model.status import Progress


class Both:
    """One way to ask, by either client."""

    def __init__(self, path: Path, *, blocking: bool) -> None:
        self.path = path
        self.blocking = blocking

    def call(self, request: Request[Any], steps: list[str] | None = None) -> Any:
        told = steps if steps is not None else []

        def tell(step: Progress) -> None:
            told.append(step.text)

        if self.blocking:
            return BlockingClient(self.path).call(request, on_progress=tell)
        return asyncio.run(LocalClient(self.path).call(request, on_progress=tell))

    def follow(self, stream: Stream[Any], items: list[object]) -> None:
        if self.blocking:
            items.extend(BlockingClient(self.path).follow(stream))
            return

        async def collect() -> None:
            async for item in LocalClient(self.path).follow(stream):
                items.append(item)

        asyncio.run(collect())


@pytest.fixture(params=["blocking", "async"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Both:
    return Both(tmp_path / "d.sock", blocking=request.param == "blocking")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path / "d.sock") as daemon:
        yield daemon


@contextmanager
def answering(path: Path, reply: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listen for one connection, read its request and let `reply` do what no daemon should."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                reply(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)
        assert not thread.is_alive()


def test_documents_arrive_as_they_were_sent(client: Both, daemon: Daemon) -> None:
    for status in STATUSES.values():
        daemon.on("status", status)
        assert client.call(requests.status()) == status
    for explanation in EXPLANATIONS.values():
        daemon.on("explain", explanation)
        assert client.call(requests.explain(explanation.name)) == explanation
    daemon.on("events", EVENTS)
    assert client.call(requests.events(limit=3)) == EVENTS


def test_progress_comes_before_the_answer(client: Both, daemon: Daemon) -> None:
    daemon.on("vm.start", role("web1"), items=(Progress(text="one"), Progress(text="two")))
    steps: list[str] = []
    assert client.call(requests.start_vm("web1", wait=True), steps) == role("web1")
    assert steps == ["one", "two"]


def test_a_document_of_many_megabytes(client: Both, daemon: Daemon) -> None:
    large = replace(WELL, roles=tuple(role(f"role{number}") for number in range(10_000)))
    daemon.on("status", large)
    assert client.call(requests.status()) == large


def test_items_of_a_stream_and_its_end(client: Both, daemon: Daemon) -> None:
    daemon.stream("events.follow", *EVENTS)
    items: list[object] = []
    with pytest.raises(NoAnswer, match="closed the connection"):
        client.follow(requests.follow_events(limit=3), items)
    assert items == list(EVENTS)


def test_errors_arrive_as_what_they_are(client: Both, daemon: Daemon) -> None:
    daemon.on("explain", NotFound("there is no role 'x'", hint="holdfast vm list"))
    with pytest.raises(NotFound, match="there is no role 'x'") as raised:
        client.call(requests.explain("x"))
    assert raised.value.hint == "holdfast vm list"


@pytest.mark.parametrize(
    ("answer", "branch"),
    [
        ({"code": "token-expired", "kind": "refused"}, Refused),
        ({"code": "domain-invalid", "kind": "invalid-input"}, InvalidInput),
        ({"code": "store-outcome-unknown", "kind": "outcome-unknown", "retryable": True}, OutcomeUnknown),
        ({"code": "store-unavailable", "retryable": True}, Unavailable),
        ({"code": "something-new"}, HoldfastError),
    ],
)
def test_a_leaf_of_another_package_keeps_its_branch_and_code(
    answer: dict[str, object], branch: type[HoldfastError]
) -> None:
    error = answered_error({"message": "m", "hint": "h", **answer})
    assert isinstance(error, branch)
    assert (error.code, error.retryable) == (answer["code"], answer.get("retryable", False))
    assert (error.message, error.hint) == ("m", "h")


def test_nobody_listens(client: Both, tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunning, match=r"d\.sock"):
        client.call(requests.ping())
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "d.sock"))
    with pytest.raises(DaemonNotRunning, match="refused"):
        client.call(requests.ping())


def test_a_path_that_no_socket_can_have(client: Both) -> None:
    client.path = Path("/tmp/" + "x" * 120)
    with pytest.raises(SocketPathInvalid, match="125 bytes"):
        client.call(requests.ping())


def test_silence_after_a_question_and_after_a_change(client: Both, daemon: Daemon) -> None:
    daemon.silence("status")
    daemon.silence("vm.remove")
    with pytest.raises(NoAnswer, match="said nothing for 1 s"):
        client.call(replace(requests.status(), silence_s=1.0))
    with pytest.raises(ChangeNotAnswered, match=r"whether vm\.remove was done is not known"):
        client.call(replace(requests.remove_vm("web1", force=False), silence_s=1.0))


@pytest.mark.parametrize("sent", [b"", b'{"item": {"text": "begun"}}\n', b'{"result": {"na'])
def test_a_daemon_that_dies_before_the_answer(sent: bytes, client: Both) -> None:
    with answering(client.path, lambda connection: connection.sendall(sent)), pytest.raises(ChangeNotAnswered):
        client.call(requests.remove_vm("web1", force=False))


@pytest.mark.parametrize(
    "sent",
    [b"HTTP/1.1 400 Bad Request\r\n", b"[]\n", b'{"result": {"node": 7}}\n', b'{"error": "no"}\n'],
)
def test_something_else_than_an_answer(sent: bytes, client: Both) -> None:
    with answering(client.path, lambda connection: connection.sendall(sent)), pytest.raises(AnswerNotUnderstood):
        client.call(requests.ping())


def test_fields_of_a_newer_daemon_are_left_out(client: Both) -> None:
    sent = {"result": {"node": "node1", "cluster": "demo", "version": "9", "mood": "good"}}
    with answering(client.path, lambda connection: connection.sendall(json.dumps(sent).encode() + b"\n")):
        assert client.call(requests.ping()).version == "9"


def test_waiting_is_told_every_second(daemon: Daemon) -> None:
    daemon.silence("status")
    told: list[None] = []
    with pytest.raises(NoAnswer):
        BlockingClient(daemon.socket).call(
            replace(requests.status(), silence_s=3.0), on_waiting=lambda: told.append(None)
        )
    assert len(told) == 2


async def test_many_requests_at_once(daemon: Daemon) -> None:
    daemon.on("status", WELL)
    client = LocalClient(daemon.socket)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(client.call(requests.status())) for _ in range(50)]
    assert all(task.result() == WELL for task in asked)
