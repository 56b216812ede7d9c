"""Which targets a portal offers, and which logical units a target has."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ctypes import POINTER, cast
from dataclasses import dataclass

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap, check_portal
from holdfast.storage.iscsi.context import IscsiContext
from holdfast.storage.iscsi.library import DiscoveredTarget
from holdfast.storage.iscsi.login import CONNECT_TIMEOUT_MS, log_in
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.scsi.capacity import decode_luns
from holdfast.storage.scsi.command import report_luns
from holdfast.storage.scsi.errors import MalformedReply
from holdfast.storage.scsi.status import Status
from holdfast.storage.transport import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFound:
    """A target with the portals that lead to it, as ``ADDRESS:PORT``, and the group that each of them belongs to."""

    target: str
    portals: tuple[str, ...]
    portal_groups: tuple[int, ...]


async def discover(
    portal: str, *, initiator: str, chap: Chap | None = None, timeout_ms: int = CONNECT_TIMEOUT_MS
) -> tuple[TargetFound, ...]:
    """Ask a portal for its targets (SendTargets), ordered by name. Raises LunUnreachable, InitiatorMissing."""
    check_portal(portal)
    context = IscsiContext(initiator)
    try:
        await log_in(context, portal, chap=chap, is_discovery=True, timeout_ms=timeout_ms)
        async with asyncio.timeout(timeout_ms / 1000):
            reply = await context.start("iscsi_discovery_async", read=_targets)
        if reply is None or reply.status != Status.GOOD:
            raise LunUnreachable(f"{portal}: no list of targets came: {context.error}")
        found: tuple[TargetFound, ...] = reply.value
        with suppress(TimeoutError, LunUnreachable):
            async with asyncio.timeout(timeout_ms / 1000):
                await context.start("iscsi_logout_async")
        return found
    except TimeoutError as error:
        raise LunUnreachable(f"{portal}: no list of targets within {timeout_ms} ms") from error
    finally:
        context.close()


async def logical_units(session: IscsiSession, *, timeout_ms: int = CONNECT_TIMEOUT_MS) -> tuple[int, ...]:
    """Ask a target for the numbers of its logical units (REPORT LUNS). Raises LunUnreachable."""
    reply = await session.execute(0, report_luns(), timeout_ms=timeout_ms)
    if not isinstance(reply, Answer):
        raise LunUnreachable(f"{session.address.target}: REPORT LUNS: {reply.words}")
    if reply.status != Status.GOOD:
        raise LunUnreachable(f"{session.address.target}: REPORT LUNS ended with status {reply.status:#04x}")
    try:
        return decode_luns(reply.data)
    except MalformedReply as error:
        raise LunUnreachable(f"{session.address.target}: {error.message}") from error


def _targets(data: int) -> tuple[TargetFound, ...]:
    found: list[TargetFound] = []
    target = cast(data, POINTER(DiscoveredTarget)) if data else None
    while target:
        portals: list[str] = []
        groups: list[int] = []
        portal = target.contents.portals
        while portal:
            address, _, group = portal.contents.portal.decode().partition(",")
            portals.append(address)
            groups.append(int(group) if group.isdigit() else 1)
            portal = portal.contents.next
        name = target.contents.target_name.decode()
        found.append(TargetFound(target=name, portals=tuple(portals), portal_groups=tuple(groups)))
        target = target.contents.next
    return tuple(sorted(found, key=lambda item: item.target))
