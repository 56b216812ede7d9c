"""Requests about iSCSI sessions: what a role of this node uses is not logged out; the rest is the initiator's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.decide.made_up import owned, role_spec
from tests.unit.node.test_storage_requests import Node

from holdfast.model.disks import DiskSpec
from holdfast.model.errors import Refused
from holdfast.model.ids import DiskName, RoleName
from holdfast.model.kernel_sessions import (
    KernelSession,
    LoginReport,
    LogoutReport,
    PortalLogin,
    SessionDisk,
    SessionList,
)
from holdfast.node.commits import Commits
from holdfast.node.iscsi_requests import READS, IscsiRequests
from holdfast.node.line_protocol import Result
from holdfast.storage.iscsi.address import Chap
from holdfast.store.records import disk_key, ownership_key, spec_key

TARGET = "iqn.2026-11.net.example:array"
CHAP = Chap(user="node1", password="secret of node1")


class SimulatedInitiator:
    """A kernel with sessions in memory."""

    def __init__(self, *sessions: KernelSession) -> None:
        self.listed = sessions
        self.logins: list[tuple[str, str | None, Chap | None, int]] = []
        self.rescans = 0

    async def name(self) -> str:
        return "iqn.2026-11.net.example:a"

    async def sessions(self) -> tuple[KernelSession, ...]:
        return self.listed

    async def log_in(
        self, portal: str, target: str | None, *, chap: Chap | None, replacement_timeout_s: int
    ) -> tuple[PortalLogin, ...]:
        self.logins.append((portal, target, chap, replacement_timeout_s))
        return (PortalLogin(target=target or TARGET, portal=portal),)

    async def log_out(self, target: str, portal: str | None) -> tuple[str, ...]:
        gone = [one for one in self.listed if one.target == target and portal in (None, one.portal)]
        self.listed = tuple(one for one in self.listed if one not in gone)
        return tuple(one.portal for one in gone)

    async def rescan(self) -> None:
        self.rescans += 1


class Machine(Node):
    """A node with two sessions to an array, and a disk named *data* behind a link in its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kernel = SimulatedInitiator(self.session("192.0.2.1:3260", "sdb"), self.session("192.0.2.2:3260", "sdc"))
        self.iscsi = IscsiRequests(Commits(self.life, self.store), self.kernel)

    def session(self, portal: str, device: str, multipath: str | None = "dm-3") -> KernelSession:
        over = None if multipath is None else str(self.folder / multipath)
        disk = SessionDisk(lun=1, device=str(self.folder / device), state="running", wwid="naa.6", multipath=over)
        return KernelSession(id=1, target=TARGET, portal=portal, state="LOGGED_IN", disks=(disk,))

    async def use(self, device: str, owner: str = "a") -> None:
        """Let role *db* of `owner` use a disk whose way is a link to `device`."""
        way = self.folder / "by-id"
        (self.folder / device).touch()
        way.unlink(missing_ok=True)
        way.symlink_to(self.folder / device)
        spec = DiskSpec(
            name=DiskName("data"),
            designator="naa.6",
            size_bytes=1,
            guest_source=str(way),
            reservations=f"sg:{way}",
            added_at_ms=0,
        )
        await self.put(disk_key(DiskName("data")), spec)
        await self.put(spec_key(RoleName("db")), role_spec("db", disks=(DiskName("data"),)))
        await self.put(ownership_key(RoleName("db")), owned("db", owner))

    async def ask_iscsi(self, method: str, **params: Any) -> Any:
        [answer] = [item async for item in self.iscsi.handle(f"storage.{method}", params)]
        assert isinstance(answer, Result)
        return answer.value


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path)
    follow = asyncio.create_task(machine.life.mirror.run(machine.store))
    changed = machine.life.mirror.subscribe()
    async with asyncio.timeout(5):
        await changed.wait()
    yield machine
    follow.cancel()
    with suppress(asyncio.CancelledError):
        await follow


async def test_a_login_takes_the_usual_timeout_and_answers_with_the_sessions(machine: Machine) -> None:
    report = await machine.ask_iscsi("login", portal="192.0.2.1:3260")
    assert isinstance(report, LoginReport)
    assert (report.now.node, report.now.initiator) == ("a", "iqn.2026-11.net.example:a")
    assert report.now.sessions == machine.kernel.listed
    chap = {"user": CHAP.user, "password": CHAP.password}
    await machine.ask_iscsi("login", portal="192.0.2.1:3260", target=TARGET, chap=chap, replacement_timeout_s=0)
    assert machine.kernel.logins == [("192.0.2.1:3260", None, None, 5), ("192.0.2.1:3260", TARGET, CHAP, 0)]
    with pytest.raises(ValidationError):
        await machine.ask_iscsi("login", portal="192.0.2.1:3260", replacement_timeout_s=-1)


async def test_a_role_of_this_node_keeps_the_last_path_to_its_disk(machine: Machine) -> None:
    await machine.use("dm-3")
    with pytest.raises(Refused, match="db on a uses a disk"):
        await machine.ask_iscsi("logout", target=TARGET)
    assert len(machine.kernel.listed) == 2
    report = await machine.ask_iscsi("logout", target=TARGET, portal="192.0.2.1:3260")
    assert report == LogoutReport(node="a", target=TARGET, portals=("192.0.2.1:3260",))
    with pytest.raises(Refused, match="no other session leads there"):
        await machine.ask_iscsi("logout", target=TARGET, portal="192.0.2.2:3260")


async def test_a_path_that_is_broken_keeps_nothing(machine: Machine) -> None:
    await machine.use("dm-3")
    first, second = machine.kernel.listed
    machine.kernel.listed = (first, replace(second, state="FAILED"))
    with pytest.raises(Refused):
        await machine.ask_iscsi("logout", target=TARGET, portal=first.portal)


async def test_a_disk_that_is_used_by_one_of_its_paths_goes_with_that(machine: Machine) -> None:
    await machine.use("sdb")
    with pytest.raises(Refused):
        await machine.ask_iscsi("logout", target=TARGET, portal="192.0.2.1:3260")


async def test_what_other_nodes_use_can_be_logged_out_here(machine: Machine) -> None:
    await machine.use("dm-3", owner="b")
    assert len((await machine.ask_iscsi("logout", target=TARGET)).portals) == 2


async def test_sessions_are_listed_with_warnings_and_after_a_rescan(machine: Machine) -> None:
    machine.kernel.listed = (machine.session("192.0.2.1:3260", "sdb", None), machine.session("x", "sdc", None))
    for method in ("sessions", "rescan"):
        found = await machine.ask_iscsi(method)
        assert isinstance(found, SessionList)
        assert found.sessions == machine.kernel.listed
        assert "no multipath device" in found.warnings[0]
    assert machine.kernel.rescans == 1


async def test_only_a_logout_needs_to_know_who_owns_what(machine: Machine) -> None:
    assert machine.iscsi.methods - READS == {"storage.logout"}
