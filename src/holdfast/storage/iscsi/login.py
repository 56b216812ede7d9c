"""Connecting to a portal and logging in, for discovery and for disks."""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.iscsi.context import IscsiContext
from holdfast.storage.iscsi.library import SESSION_DISCOVERY, SESSION_NORMAL, STATUS_REDIRECT
from holdfast.storage.scsi.status import Status

CONNECT_TIMEOUT_MS: Final = 3000
"""For one portal, from the first packet to the end of the login."""


class Redirected(LunUnreachable):
    """The target sends us to another of its portals."""

    def __init__(self, portal: str, *, to: str) -> None:
        super().__init__(f"{portal}: redirects to {to}")
        self.portal = to


async def log_in(
    context: IscsiContext,
    portal: str,
    *,
    chap: Chap | None,
    is_discovery: bool = False,
    timeout_ms: int = CONNECT_TIMEOUT_MS,
) -> None:
    """Connect and log in within `timeout_ms`; whatever prevents it closes the context.

    Raises LunUnreachable with the reason, Redirected.
    """
    is_in = False
    try:
        context.call("iscsi_set_session_type", SESSION_DISCOVERY if is_discovery else SESSION_NORMAL)
        if chap is not None:
            context.set_chap(chap)
        async with asyncio.timeout(timeout_ms / 1000):
            await _take(context, portal, "iscsi_connect_async", portal.encode())
            await _take(context, portal, "iscsi_login_async")
        is_in = True
    except TimeoutError as error:
        raise LunUnreachable(f"{portal}: no answer within {timeout_ms} ms") from error
    finally:
        if not is_in:
            context.close()


async def _take(context: IscsiContext, portal: str, step: str, *arguments: object) -> None:
    reply = await context.start(step, before=arguments)
    if reply is None:
        raise LunUnreachable(f"{portal}: the connection ended")
    if reply.status == STATUS_REDIRECT and context.redirection:
        raise Redirected(portal, to=context.redirection)
    if reply.status != Status.GOOD:
        raise LunUnreachable(f"{portal}: {context.error}")
