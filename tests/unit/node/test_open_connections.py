"""Connections of a machine that is shut out are ended, and nobody else's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from holdfast.node.open_connections import cut


def connected(listener: socket.socket, own: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection from an own address."""
    client = socket.create_connection(listener.getsockname(), source_address=(own, 0))
    server, _ = listener.accept()
    client.settimeout(2)
    return client, server


async def test_only_what_comes_from_there_to_that_port_is_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        port = listener.getsockname()[1]
        gone, gone_end = connected(listener, "127.0.0.7")
        stays, stays_end = connected(listener, "127.0.0.8")
        elsewhere, elsewhere_end = connected(other, "127.0.0.7")
        assert await cut(("127.0.0.7",), (port,)) == 1
        for server in (stays_end, elsewhere_end):
            server.sendall(b"x")
        assert (stays.recv(1), elsewhere.recv(1)) == (b"x", b"x")
        try:
            answer = gone.recv(1)
        except ConnectionResetError:
            answer = b""
        assert answer == b""
        for one in (gone, gone_end, stays, stays_end, elsewhere, elsewhere_end):
            one.close()


async def test_nothing_to_end_is_no_trouble() -> None:
    assert await cut(("127.0.0.7", "::7"), (1,)) == 0


async def test_what_the_kernel_cannot_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tool = script(tmp_path, 'case "$*" in *--kill*) exit 0;; *) exec ss "$@";; esac')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        both = connected(listener, "127.0.0.7")
        assert await cut(("127.0.0.7",), (port,), tool=tool) == 0
        for one in both:
            one.close()
    assert f"connections of 127.0.0.7 to port {port} may stay open" in caplog.text
    assert "the kernel left 1 open" in caplog.text


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("exec sleep 60", "did not answer within 0.2 s"),
        ("echo 'not permitted' >&2; exit 1", "not permitted"),
    ],
)
async def test_a_tool_that_hangs_or_fails_is_named_and_the_next_address_gets_its_turn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, does: str, expected: str
) -> None:
    assert await cut(("127.0.0.7", "127.0.0.8"), (1,), tool=script(tmp_path, does), within_s=0.2) == 0
    assert [expected in line for line in caplog.messages] == [True, True]
    assert "127.0.0.8" in caplog.messages[1]


async def test_without_the_tool_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await cut(("127.0.0.7",), (1,), tool=str(tmp_path / "nowhere")) == 0
    assert "may stay open until the database restarts" in caplog.text


def script(folder: Path, does: str) -> str:
    """A command in place of ss."""
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return str(path)
