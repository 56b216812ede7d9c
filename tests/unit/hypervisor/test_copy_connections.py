"""The connection of a copy is ended on this machine, and no other connection is."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from holdfast.hypervisor.copy_connections import FIRST_PORT, LAST_PORT, LIBVIRT_PORT, end_copies_to

TARGET, ANOTHER = "127.49.15.2", "127.49.15.3"
"""Nothing else on this machine talks to these."""


@contextmanager
def connection(host: str, port: int, *, from_port: int = 0) -> Iterator[socket.socket]:
    with (
        socket.create_server((host, port)),
        socket.create_connection((host, port), timeout=5, source_address=("127.0.0.1", from_port)) as client,
    ):
        yield client


def is_ended(client: socket.socket) -> bool:
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


async def test_ends_the_connections_over_which_a_guest_may_be_copied_there_and_no_other() -> None:
    with ExitStack() as open_ones:
        first, last, libvirt, closing, elsewhere, below, above, answer = (
            open_ones.enter_context(one)
            for one in (
                connection(TARGET, FIRST_PORT),
                connection(TARGET, LAST_PORT),
                connection(TARGET, LIBVIRT_PORT),
                connection(TARGET, FIRST_PORT + 2),
                connection(ANOTHER, FIRST_PORT),
                connection(TARGET, FIRST_PORT - 1),
                connection(TARGET, LAST_PORT + 1),
                connection(TARGET, FIRST_PORT + 1, from_port=22379),
            )
        )
        closing.shutdown(socket.SHUT_WR)
        await end_copies_to(TARGET)
        assert [is_ended(one) for one in (first, last, libvirt, closing)] == [True] * 4
        assert [is_ended(one) for one in (elsewhere, below, above, answer)] == [False] * 4


@pytest.mark.parametrize("script", ["import sys; sys.exit('no permission')", "import time; time.sleep(60)"])
async def test_what_cannot_be_ended_is_told(script: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tool = tmp_path / "ss"
    tool.write_text(f"#!{sys.executable}\n{script}\n")
    tool.chmod(0o700)
    await end_copies_to(TARGET, tool=str(tool), limit_s=1)
    assert "no permission" in caplog.text or "did not answer within 1 s" in caplog.text


async def test_a_machine_without_the_tool_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await end_copies_to(TARGET, tool=str(tmp_path / "ss"))
    assert "No such file" in caplog.text
