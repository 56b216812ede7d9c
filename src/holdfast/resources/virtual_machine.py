"""The ``virtual-machine`` agent: a guest as a resource.

Rule of the file: a guest executes only after the question, asked when its process was there, whether it still may.
Offline and terminate end with ``destroy``, the only call that returns when the guest is certainly gone; "shut down",
"not found" and "absent" are hints on the way there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from holdfast.model.errors import Conflict, HoldfastError, NotFound, OutcomeUnknown, Unavailable
from holdfast.resources.guest_host import GuestHost, GuestView
from holdfast.resources.port import Health, HealthKind, Outcome, OutcomeKind

_POLL_S = 0.1
_RETRY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualMachine:
    """One guest on this node.

    may_run                asked when its process exists and has not executed: whether this node may still own it.
    shutdown_timeout_ms    how long the guest may take to power itself off before its plug is pulled.
    terminate_timeout_ms   how long to try before saying that it is unknown whether the guest is gone.
    """

    host: GuestHost
    name: str
    uuid: str
    domain_xml: str
    may_run: Callable[[], Awaitable[bool]]
    shutdown_timeout_ms: int = 60_000
    terminate_timeout_ms: int = 30_000

    async def validate(self) -> Outcome:
        """Check that the hypervisor answers and that no other guest has the name."""
        try:
            guests = await self.host.guests()
        except HoldfastError as error:
            return _failed(error)
        for guest in guests:
            if guest.name == self.name and guest.uuid != self.uuid:
                return Outcome(
                    kind=OutcomeKind.FAILED,
                    detail=f"Another guest on this node has the name {self.name!r}: {guest.uuid}.",
                    hint=f"`virsh destroy {guest.uuid}` and `virsh undefine {guest.uuid}` on this node remove it.",
                )
        return Outcome(kind=OutcomeKind.DONE)

    async def online(self) -> Outcome:
        """Start the guest, or adopt it when its process exists already. Unknown as soon as there may be a process."""
        detail = ""
        try:
            await self.host.prepare(self.domain_xml)
        except Conflict:
            detail = "its process existed already and was adopted"
        except OutcomeUnknown as error:
            return _unknown(error)
        except HoldfastError as error:
            return _failed(error)
        outcome = await self.go_on()
        return replace(outcome, detail=outcome.detail or detail)

    async def restore(self, path: str, memory_id: str) -> Outcome:
        """Make its process from saved memory; it does not execute yet. Unknown as soon as there may be a process."""
        try:
            await self.host.restore(self.uuid, path, memory_id)
        except (Conflict, OutcomeUnknown) as error:
            return _unknown(error)
        except HoldfastError as error:
            return _failed(error)
        return Outcome(kind=OutcomeKind.DONE)

    async def go_on(self) -> Outcome:
        """Let its process execute, if this node may still own it. Not done is unknown: it is there all the same."""
        try:
            if not await self.may_run():
                return Outcome(kind=OutcomeKind.UNKNOWN, detail="its process exists, and this node may not let it run")
            await self.host.resume(self.uuid)
        except HoldfastError as error:
            return _unknown(error)
        return Outcome(kind=OutcomeKind.DONE)

    async def offline(self) -> Outcome:
        """Press the power button, wait, then pull the plug. Failed only when the hypervisor could not be asked."""
        try:
            await self.host.shutdown(self.uuid)
            await self._wait_absent()
        except OutcomeUnknown:
            await self._wait_absent()
        except NotFound:
            return await self.terminate()
        except Unavailable as error:
            return _failed(error)
        except HoldfastError:
            return await self.terminate()  # it is paused, for example: no button will help
        return await self.terminate()

    async def terminate(self) -> Outcome:
        """Pull the plug again and again until the guest is certainly gone or the time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.terminate_timeout_ms / 1000
        while True:
            try:
                await self.host.destroy(self.uuid)
                return Outcome(kind=OutcomeKind.DONE)
            except HoldfastError as error:
                if loop.time() >= deadline:
                    return _unknown(error)
            await asyncio.sleep(_RETRY_S)

    async def looks_alive(self) -> Health:
        """Check that its process exists; libvirt is not asked."""
        try:
            process = await self.host.process_of(self.uuid)
        except HoldfastError as error:
            return Health(kind=HealthKind.UNKNOWN, detail=error.message)
        if process is None:
            return Health(kind=HealthKind.DEAD, detail="its QEMU process does not exist")
        return Health(kind=HealthKind.ALIVE)

    async def is_alive(self) -> Health:
        """Check that the hypervisor shows it as running; a paused guest is neither alive nor dead."""
        try:
            found = await self._find()
        except HoldfastError as error:
            return Health(kind=HealthKind.UNKNOWN, detail=error.message)
        if found is None:
            return Health(kind=HealthKind.DEAD, detail="the hypervisor does not run it")
        if found.is_running:
            return Health(kind=HealthKind.ALIVE)
        return Health(kind=HealthKind.UNKNOWN, detail=f"it is there and does not run: {found.reason}")

    async def _find(self) -> GuestView | None:
        present = [guest for guest in await self.host.guests() if guest.uuid == self.uuid and guest.is_present]
        return present[0] if present else None

    async def _wait_absent(self) -> None:
        """Return when the guest is seen no more, or when its time to shut down is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.shutdown_timeout_ms / 1000
        while loop.time() < deadline:
            await asyncio.sleep(_POLL_S)
            try:
                if await self._find() is None:
                    return
            except Unavailable:
                continue


def _unknown(error: HoldfastError) -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, detail=error.message, hint=error.hint)


def _failed(error: HoldfastError) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, detail=error.message, hint=error.hint, can_retry=error.retryable)
