"""What a person asks about the iSCSI sessions of this node's kernel: log in, log out, list, look for new LUNs.

Rule of the file: each node answers for itself alone, for a secret belongs to one node. Nothing here moves or protects a
role; what a role of this node uses is not logged out. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from holdfast.model.disks import DiskSpec
from holdfast.model.errors import Refused
from holdfast.model.ids import NodeName
from holdfast.model.kernel_sessions import KernelSession, LoginReport, LogoutReport, SessionList
from holdfast.model.snapshot import Snapshot
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result
from holdfast.node.storage_params import ListParams, LoginParams, LogoutParams
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.open_iscsi.initiator import REPLACEMENT_TIMEOUT_S, KernelInitiator, warnings_of
from holdfast.storage.ways import parse_way

READS: Final = frozenset(("storage.sessions", "storage.login", "storage.rescan"))
"""What needs no majority of voters: it writes to no database, and a node may need its disks back first."""


class IscsiRequests:
    """Answers the requests about iSCSI sessions."""

    def __init__(self, commits: Commits, initiator: KernelInitiator) -> None:
        self._commits = commits
        self._initiator = initiator
        self._answers: Final[dict[str, Callable[[dict[str, Any]], Awaitable[object]]]] = {
            "storage.sessions": self._sessions,
            "storage.login": self._login,
            "storage.logout": self._logout,
            "storage.rescan": self._rescan,
        }
        self.methods: Final = frozenset(self._answers)

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer one request by a `Result`."""
        yield Result(await self._answers[method](params))

    async def _sessions(self, params: dict[str, Any]) -> object:
        ListParams.model_validate(params)
        return await self._list()

    async def _login(self, params: dict[str, Any]) -> object:
        wanted = LoginParams.model_validate(params)
        given = wanted.replacement_timeout_s
        logins = await self._initiator.log_in(
            wanted.portal,
            wanted.target,
            chap=None if wanted.chap is None else Chap(user=wanted.chap.user, password=wanted.chap.password),
            replacement_timeout_s=REPLACEMENT_TIMEOUT_S if given is None else given,
        )
        return LoginReport(logins=logins, now=await self._list())

    async def _logout(self, params: dict[str, Any]) -> object:
        wanted = LogoutParams.model_validate(params)
        me = self._commits.life.me
        snapshot = await self._commits.snapshot()
        lost = devices_lost(await self._initiator.sessions(), wanted.target, wanted.portal)
        if used := roles_on(lost, snapshot, me):
            raise Refused(
                f"{', '.join(used)} on {me} uses a disk of {wanted.target}, and no other session leads there",
                hint=f"move it away first: holdfast role move {used[0]} NODE, or: holdfast node drain {me}",
            )
        portals = await self._initiator.log_out(wanted.target, wanted.portal)
        return LogoutReport(node=me, target=wanted.target, portals=portals)

    async def _rescan(self, params: dict[str, Any]) -> object:
        ListParams.model_validate(params)
        await self._initiator.rescan()
        return await self._list()

    async def _list(self) -> SessionList:
        sessions = await self._initiator.sessions()
        return SessionList(
            node=self._commits.life.me,
            initiator=await self._initiator.name(),
            sessions=sessions,
            warnings=warnings_of(sessions),
        )


def devices_lost(sessions: Sequence[KernelSession], target: str, portal: str | None) -> frozenset[str]:
    """Return the devices that nothing leads to any more when a target is logged out, through a portal or all."""
    ending = [one for one in sessions if one.target == target and portal in (None, one.portal)]
    going = {device for one in ending for disk in one.disks for device in (disk.device, disk.multipath)}
    staying = {disk.multipath for one in sessions if one not in ending and one.is_logged_in for disk in one.disks}
    return frozenset(device for device in going - staying if device is not None)


def roles_on(devices: frozenset[str], snapshot: Snapshot, node: NodeName) -> tuple[str, ...]:
    """Return the roles that a node owns and that use one of these devices."""
    names = {name for name, spec in snapshot.disks.items() if _device(spec.value) in devices}
    owned = [role for role, ownership in sorted(snapshot.ownerships.items()) if ownership.value.owner == node]
    return tuple(role for role in owned if role in snapshot.specs and names & set(snapshot.specs[role].value.disks))


def _device(spec: DiskSpec) -> str:
    return str(Path(parse_way(spec.filled(spec.reservations)).path).resolve())
