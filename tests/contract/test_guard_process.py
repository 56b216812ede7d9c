"""What only a real guard process can show: signals, sockets, files, memory."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.guard_worlds import WATCHDOG_TIMEOUT_S, RealWorld

from holdfast.fencing.errors import GuardUnavailable
from holdfast.fencing.guard.main import lean_command
from holdfast.fencing.guard.protocol import KILL_BOUND_MS
from holdfast.fencing.guard_client import GuardClient


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RealWorld]:
    made = RealWorld(tmp_path)
    try:
        await made.start_guard()
        yield made
    finally:
        made.close()


def ahead(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def run_to_end(command: list[str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=10, check=False)


async def ended(world: RealWorld) -> int:
    assert world.process is not None
    return await asyncio.to_thread(world.process.wait, 5)


async def test_sigterm_without_guests_switches_the_watchdog_off(world: RealWorld) -> None:
    world.signal_guard(signal.SIGTERM)
    assert await ended(world) == 0
    assert world.watchdog_bytes().endswith(b"V")
    assert not (world.folder / "guard.sock").exists()


async def test_sigterm_with_guests_leaves_the_watchdog_running_and_the_record(world: RealWorld) -> None:
    guest = str(uuid.uuid4())
    await world.guard.extend(ahead(20))
    await world.guard.protect(guest)
    world.signal_guard(signal.SIGTERM)
    assert await ended(world) == 0
    assert b"V" not in world.watchdog_bytes()
    await world.start_guard()
    reading = await world.guard.state()
    assert reading.guests == {guest}
    assert reading.is_entitled


async def test_petting_stops_while_nothing_proves_the_guests_dead(world: RealWorld) -> None:
    """SAFE-2. A process that survives SIGKILL cannot be made here; a guard out of descriptors cannot see either."""
    assert world.process is not None
    await world.guard.extend(ahead(0.3))
    await world.guard.protect(str(uuid.uuid4()))
    limits = resource.prlimit(world.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(world.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    await asyncio.sleep(0.3 + KILL_BOUND_MS / 1000 + 0.1)
    world.pets()
    await asyncio.sleep(WATCHDOG_TIMEOUT_S)
    assert world.pets() == 0
    resource.prlimit(world.process.pid, resource.RLIMIT_NOFILE, limits)
    await asyncio.sleep(0.5)
    assert world.pets() > 0


async def test_the_state_tells_of_the_watchdog(world: RealWorld) -> None:
    watchdog = (await world.guard.state()).watchdog
    assert watchdog is not None
    assert (watchdog.device, watchdog.timeout_s, watchdog.error) == (
        str(world.folder / "watchdog"),
        WATCHDOG_TIMEOUT_S,
        "",
    )


async def test_a_guest_that_cannot_be_recorded_is_not_acknowledged(world: RealWorld) -> None:
    (world.folder / "guard.new").mkdir()
    assert await world.guard.extend(ahead(20)), "an unrecorded extension only makes a restarted guard stricter"
    with pytest.raises(GuardUnavailable, match="not-recorded"):
        await world.guard.protect(str(uuid.uuid4()))
    assert (await world.guard.state()).guests == frozenset()
    (world.folder / "guard.new").rmdir()
    assert await world.guard.protect(str(uuid.uuid4()))


async def test_a_second_guard_on_the_same_record_refuses_to_run(world: RealWorld) -> None:
    command = lean_command(["--socket", str(world.folder / "other.sock"), "--record", str(world.folder / "guard.json")])
    second = await run_to_end(command)
    assert second.returncode == 1
    assert "another guard" in second.stderr


async def test_a_damaged_record_keeps_the_guard_from_starting(tmp_path: Path) -> None:
    (tmp_path / "guard.json").write_text("{")
    command = lean_command(["--socket", str(tmp_path / "s"), "--record", str(tmp_path / "guard.json")])
    ended = await run_to_end(command)
    assert ended.returncode == 1
    assert "no guest may start" in ended.stderr


async def test_the_socket_is_only_for_its_owner(world: RealWorld) -> None:
    assert (world.folder / "guard.sock").stat().st_mode & 0o777 == 0o600


async def test_bad_clients_do_not_disturb_the_guard(world: RealWorld) -> None:
    flood = socket.socket(socket.AF_UNIX)
    flood.connect(str(world.folder / "guard.sock"))
    flood.sendall(b'{"command": "fly"}\n')
    assert b'"bad-request"' in flood.recv(4096)
    flood.sendall(b"x" * 20_000)
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for client in crowd:
        client.connect(str(world.folder / "guard.sock"))
    latecomer = GuardClient(world.folder / "guard.sock", answer_timeout_ms=5000)
    assert await latecomer.extend(ahead(20))
    assert await world.guard.extend(ahead(21))
    latecomer.close()
    for client in [flood, *crowd]:
        client.close()


async def test_a_guard_that_is_frozen_is_unavailable_within_the_time_given(world: RealWorld) -> None:
    client = GuardClient(world.folder / "guard.sock", answer_timeout_ms=200)
    await client.extend(ahead(20))
    world.freeze_guard()
    before = asyncio.get_running_loop().time()
    with pytest.raises(GuardUnavailable):
        await client.protect(str(uuid.uuid4()))
    assert asyncio.get_running_loop().time() - before < 1
    world.thaw_guard()
    assert len((await client.state()).guests) == 1, "the guard got the request; its late answer is not the next one's"
    client.close()


async def test_a_missing_guard_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(GuardUnavailable, match="No such file"):
        await GuardClient(tmp_path / "guard.sock").protect(str(uuid.uuid4()))


async def test_calls_at_the_same_time_are_answered_each(world: RealWorld) -> None:
    guests = [str(uuid.uuid4()) for _ in range(20)]
    deadlines = [ahead(10 + n) for n in range(20)]
    assert all(await asyncio.gather(*(world.guard.extend(deadline) for deadline in deadlines)))
    assert all(await asyncio.gather(*(world.guard.protect(guest) for guest in guests)))
    reading = await world.guard.state()
    assert reading.guests == frozenset(guests)
    assert reading.until == pytest.approx(deadlines[-1], abs=0.01)


async def test_the_guard_is_small_and_loads_nothing_but_the_standard_library(world: RealWorld) -> None:
    assert world.process is not None
    rollup = Path(f"/proc/{world.process.pid}/smaps_rollup").read_text()
    pss_kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss_kib < 12 * 1024
    maps = Path(f"/proc/{world.process.pid}/maps").read_text()
    assert "site-packages" not in maps
