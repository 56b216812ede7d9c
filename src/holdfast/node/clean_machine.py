"""Ending what runs of roles on this machine, before it becomes another node, or none.

Rule of the file: it returns when the hypervisor is certain that nothing is left. Source: SAFE-1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from holdfast.fencing.guard_client import GuardClient
from holdfast.fencing.port import Guard
from holdfast.hypervisor.libvirt_host import LibvirtHost
from holdfast.hypervisor.port import Hypervisor
from holdfast.model.errors import HoldfastError
from holdfast.node.config import DaemonConfig

log = logging.getLogger(__name__)

AGAIN_S: Final = 0.5


async def end_guests(hypervisor: Hypervisor, guard: Guard, roles: Collection[str]) -> None:
    """End the guests with these uuids and all that the guard knows. Raises: HoldfastError while that is not certain."""
    ours = set(roles)
    await _destroy_present(hypervisor, ours)  # before the guard is asked, which may be dead
    ours |= (await guard.state()).guests
    await _destroy_present(hypervisor, ours)
    for uuid in sorted(ours):
        await hypervisor.destroy(uuid)
        await guard.unprotect(uuid)


async def _destroy_present(hypervisor: Hypervisor, ours: Collection[str]) -> None:
    for guest in await hypervisor.guests():
        if guest.uuid in ours and guest.is_present:
            log.warning("ending guest %s: this incarnation does not own it", guest.name)
            await hypervisor.destroy(guest.uuid)


async def clean_machine(config: DaemonConfig, roles: Collection[str], *, within_s: float | None) -> None:
    """End every guest of a role on a machine whose node does not live any more; tries until it is certain.

    within_s   None: for as long as it takes. Raises: HoldfastError, the last one, when that is over.
    """
    host, guard = LibvirtHost(uri=config.libvirt_uri), GuardClient(config.guard_socket)
    time = asyncio.get_running_loop().time
    until = None if within_s is None else time() + within_s
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(host.run())
        failure: HoldfastError | None = None
        while True:
            try:
                await end_guests(host, guard, roles)
                break
            except HoldfastError as error:
                log.warning("it is not certain yet that nothing runs here: %s", error.message)
                if until is not None and time() > until:
                    failure = error
                    break
            await asyncio.sleep(AGAIN_S)
        connecting.cancel()
    if failure is not None:
        raise failure
