"""The kernel's iSCSI initiator: log in, log out, list, look for new LUNs.

Rule of the file: one session per portal, and what is logged in returns after a restart of the machine, because its
record says *automatic*; a login that failed leaves no record behind that it made. Targets are asked for their portals
in user space (`holdfast.storage.iscsi`), so no secret goes into a discovery record.
Source: iscsiadm(8); open-iscsi's README, sections 7 and 8.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from holdfast.model.errors import HoldfastError, InvalidInput, NotFound, OutcomeUnknown
from holdfast.model.kernel_sessions import KernelSession, PortalLogin
from holdfast.storage.errors import InitiatorFailed, InitiatorMissing
from holdfast.storage.iscsi.address import Chap, check_portal
from holdfast.storage.iscsi.discovery import TargetFound, discover
from holdfast.storage.open_iscsi.block_devices import SYSFS, identified
from holdfast.storage.open_iscsi.exit_codes import ExitCode, error_of
from holdfast.storage.open_iscsi.listing import parse_sessions
from holdfast.storage.open_iscsi.node_record import ROOTS, chap_fields, find_records, write_fields
from holdfast.storage.open_iscsi.program import run_program

REPLACEMENT_TIMEOUT_S: Final = 5
"""With several paths, requests of a lost one go on over another so much sooner than after open-iscsi's 120 s; with one
path, an outage that is shorter is not seen. Source: open-iscsi's README, 8.1.4: 5 to 15 with multipath."""
LOGIN_MS: Final = 30_000
"""iscsid itself tries for two minutes and goes on when nobody waits."""
RECORD_MS: Final = 20_000
SETTLE_MS: Final = 10_000
INITIATOR_FILE: Final = Path("/etc/iscsi/initiatorname.iscsi")
_TARGET: Final = re.compile(r"(iqn\.[0-9]{4}-[0-9]{2}\.|eui\.|naa\.)[A-Za-z0-9.:_-]{1,200}")
_INITIATOR: Final = re.compile(r"^\s*InitiatorName\s*=\s*(\S+)\s*$", re.MULTILINE)


class KernelInitiator(Protocol):
    """What can be asked of a node's iSCSI initiator. Every method may raise InitiatorMissing and InitiatorFailed."""

    async def name(self) -> str:
        """Return the node's iSCSI name."""

    async def sessions(self) -> tuple[KernelSession, ...]:
        """Return the sessions there are, with their disks."""

    async def log_in(
        self, portal: str, target: str | None, *, chap: Chap | None, replacement_timeout_s: int
    ) -> tuple[PortalLogin, ...]:
        """Log in to a target, or to all that a portal offers, through every portal of theirs.

        Returns when the kernel's new disks have their names. Raises what prevented all of them, or LunUnreachable,
        LoginRefused, NotFound, InvalidInput, OutcomeUnknown.
        """

    async def log_out(self, target: str, portal: str | None) -> tuple[str, ...]:
        """End the sessions with a target, and forget it. Raises NotFound. Returns the portals."""

    async def rescan(self) -> None:
        """Look for LUNs that the targets have added, or made larger, since the login."""


class Discover(Protocol):
    """Who asks a portal for its targets. Source: `holdfast.storage.iscsi.discovery.discover`."""

    def __call__(self, portal: str, *, initiator: str, chap: Chap | None) -> Awaitable[tuple[TargetFound, ...]]:
        """Return the targets with all of their portals. Raises LunUnreachable, InitiatorMissing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIscsi:
    """The `KernelInitiator` of this machine, by iscsiadm."""

    program: str = "iscsiadm"
    settle: str = "udevadm"
    initiator_file: Path = INITIATOR_FILE
    roots: Sequence[Path] = field(default=ROOTS)
    sysfs: Path = SYSFS
    login_ms: int = LOGIN_MS
    discover: Discover = discover

    async def name(self) -> str:
        """See `KernelInitiator`."""
        try:
            text = await asyncio.to_thread(self.initiator_file.read_text, encoding="utf-8", errors="replace")
        except OSError as error:
            raise InitiatorMissing(
                f"{self.initiator_file} cannot be read: {error.strerror}", hint="install open-iscsi on this node"
            ) from error
        found = _INITIATOR.search(text)
        if found is None:
            hint = "write a name of its own for each node: echo InitiatorName=$(iscsi-iname) > " + str(
                self.initiator_file
            )
            raise InitiatorMissing(f"{self.initiator_file} has no InitiatorName", hint=hint)
        return found[1]

    async def sessions(self) -> tuple[KernelSession, ...]:
        """See `KernelInitiator`."""
        code, output = await self._ask("the sessions", "-m", "session", "-P", "3", accept=ExitCode.NO_OBJS_FOUND)
        found = () if code == ExitCode.NO_OBJS_FOUND else parse_sessions(output)

        def look() -> tuple[KernelSession, ...]:
            return tuple(replace(one, disks=tuple(identified(disk, self.sysfs) for disk in one.disks)) for one in found)

        return await asyncio.to_thread(look)

    async def log_in(
        self, portal: str, target: str | None, *, chap: Chap | None, replacement_timeout_s: int
    ) -> tuple[PortalLogin, ...]:
        """See `KernelInitiator`."""
        fields = {} if chap is None else chap_fields(chap)
        if target is not None:
            check_target(target)
        there = {(session.target, session.portal) for session in await self.sessions()}
        ways = await self._portals(portal, target, chap)

        async def attempt(name: str, address: str, group: int) -> PortalLogin | HoldfastError:
            try:
                check_target(name)
                check_portal(address)
                where = ("-T", name, "-p", f"{address},{group}")
                await self._log_in(
                    name, address, where, fields, replacement_timeout_s, is_there=(name, address) in there
                )
            except HoldfastError as error:
                return error
            return PortalLogin(target=name, portal=address)

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(attempt(*way)) for way in ways]
        ended = [(way, task.result()) for way, task in zip(ways, running, strict=True)]
        errors = [one for _, one in ended if isinstance(one, HoldfastError)]
        if len(errors) == len(ended):
            raise errors[0]
        await self._settled()
        return tuple(
            PortalLogin(target=way[0], portal=way[1], problem=one.message) if isinstance(one, HoldfastError) else one
            for way, one in ended
        )

    async def log_out(self, target: str, portal: str | None) -> tuple[str, ...]:
        """See `KernelInitiator`."""
        check_target(target)
        if portal is not None:
            check_portal(portal)
        ended = sorted(
            {
                session.portal
                for session in await self.sessions()
                if session.target == target and portal in (None, session.portal)
            }
        )
        for one in ended:
            about = f"{target} through {one}"
            await self._ask(about, "-m", "node", "-T", target, "-p", one, "--logout", timeout_ms=self.login_ms)
        where = ("-T", target) if portal is None else ("-T", target, "-p", portal)
        code, _ = await self._ask(target, "-m", "node", *where, "-o", "delete", accept=ExitCode.NO_OBJS_FOUND)
        if code == ExitCode.NO_OBJS_FOUND and not ended:
            raise NotFound(f"this node is not logged in to {target}", hint="holdfast storage sessions shows them")
        return tuple(ended)

    async def rescan(self) -> None:
        """See `KernelInitiator`."""
        await self._ask("the sessions", "-m", "session", "--rescan", accept=ExitCode.NO_OBJS_FOUND)
        await self._settled()

    async def _portals(self, portal: str, target: str | None, chap: Chap | None) -> list[tuple[str, str, int]]:
        """Every target that is wanted, through each of its portals."""
        targets = await self.discover(portal, initiator=await self.name(), chap=chap)
        ways = [
            (one.target, address, group)
            for one in targets
            if target in (None, one.target)
            for address, group in zip(one.portals, one.portal_groups, strict=True)
        ]
        if not ways:
            offered = ", ".join(one.target for one in targets) or "none to this node"
            raise NotFound(
                f"{portal} does not offer {target or 'any target'}", hint=f"the targets it offers are: {offered}"
            )
        return ways

    async def _log_in(
        self,
        target: str,
        portal: str,
        where: Sequence[str],
        fields: Mapping[str, str],
        replacement_timeout_s: int,
        *,
        is_there: bool,
    ) -> None:
        """Make the record say what is wanted, then log in; a record that is new goes when that fails."""
        about = f"{target} through {portal}"
        # "new" would reset a record that is there, and with it a secret that is not given again.
        is_new = not await asyncio.to_thread(find_records, target, portal, self.roots)
        if is_new:
            await self._ask(about, "-m", "node", *where, "-o", "new")
        try:
            settings = {
                "node.startup": "automatic",
                "node.session.timeo.replacement_timeout": str(replacement_timeout_s),
            }
            pairs = [word for name, value in settings.items() for word in ("-n", name, "-v", value)]
            await self._ask(about, "-m", "node", *where, "-o", "update", *pairs)
            if fields:
                await self._write(target, portal, fields)
            if not is_there:
                login = ("-m", "node", *where, "--login")
                await self._ask(about, *login, accept=ExitCode.SESS_EXISTS, timeout_ms=self.login_ms)
        except OutcomeUnknown:
            raise
        except HoldfastError:
            if is_new:
                await self._ask(about, "-m", "node", *where, "-o", "delete", accept=ExitCode.NO_OBJS_FOUND)
            raise

    async def _write(self, target: str, portal: str, fields: Mapping[str, str]) -> None:
        def write() -> int:
            records = find_records(target, portal, self.roots)
            for record in records:
                write_fields(record, fields)
            return len(records)

        places = " or ".join(str(root / "nodes") for root in self.roots)
        try:
            written = await asyncio.to_thread(write)
        except OSError as error:
            raise InitiatorFailed(f"the secret for {target} cannot be kept in {places}: {error.strerror}") from error
        if not written:
            raise InitiatorFailed(f"open-iscsi keeps no record of {target} in {places}, where the secret would go")

    async def _ask(
        self, about: str, *arguments: str, accept: ExitCode = ExitCode.SUCCESS, timeout_ms: int = RECORD_MS
    ) -> tuple[int, str]:
        """Run iscsiadm, and return its exit code and output. Any code but success and `accept` is raised."""
        ended = await run_program(self.program, *arguments, package="open-iscsi", timeout_ms=timeout_ms)
        if ended.exit_code is None:
            raise OutcomeUnknown(
                f"{about}: iscsiadm did not end within {timeout_ms} ms; iscsid may still try",
                hint="look what came of it: holdfast storage sessions",
            )
        if ended.exit_code not in (ExitCode.SUCCESS, accept):
            raise error_of(ended.exit_code, about=about, output=ended.output)
        return ended.exit_code, ended.output

    async def _settled(self) -> None:
        """Wait until udev named the disks that came. Names that are late, or never come, are not worth an error."""
        arguments = ("settle", f"--timeout={SETTLE_MS // 1000}")
        with suppress(InitiatorMissing):
            await run_program(self.settle, *arguments, package="udev", timeout_ms=SETTLE_MS + 1000)


def check_target(target: str) -> None:
    """Raise InvalidInput unless a target's name is one that can be a folder's name and an argument."""
    if not _TARGET.fullmatch(target):
        raise InvalidInput(
            f"{target!r} is no target's name that open-iscsi can keep",
            hint="such names begin with iqn., eui. or naa., and have letters, digits and . : - _",
        )


def warnings_of(sessions: Sequence[KernelSession]) -> tuple[str, ...]:
    """Say what a person should mend: sessions that are broken, and paths that nothing brings together."""
    broken = [
        f"{one.target} through {one.portal} is {one.state or 'in an unknown state'}"
        for one in sessions
        if not one.is_logged_in
    ]
    paths: dict[str, list[str]] = {}
    for one in sessions:
        for disk in one.disks:
            if disk.wwid and disk.multipath is None:
                paths.setdefault(disk.wwid, []).append(disk.device)
    alone = [
        f"{wwid} has {len(devices)} paths ({', '.join(devices)}) and no multipath device: install multipath-tools"
        for wwid, devices in sorted(paths.items())
        if len(devices) > 1
    ]
    return (*broken, *alone)
