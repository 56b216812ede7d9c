"""Connections of a machine that is shut out are ended, and nobody else's."""

from __future__ import annotations

import socket

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
