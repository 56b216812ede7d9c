"""The executor's hands for starts: have a guest's process made, restored or let go on, if this node may.

Rule of the file: the guard has a guest on its list before its process is made, and is asked again before it executes.
Source: SAFE-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from holdfast.decide.steps import Act
from holdfast.fencing.port import Guard
from holdfast.hypervisor.disk_sources import with_sources
from holdfast.hypervisor.port import Hypervisor
from holdfast.model.errors import Unavailable
from holdfast.model.roles import Ownership, RoleSpec
from holdfast.node.disks import DiskKeeper
from holdfast.node.mirror import Mirror
from holdfast.resources.port import Outcome, OutcomeKind
from holdfast.resources.virtual_machine import VirtualMachine


class GuestStarts:
    """Starts guests on this node. `not_entitled`: why the guard lets none start, as it said last; None: it does."""

    def __init__(self, *, hypervisor: Hypervisor, guard: Guard, disks: DiskKeeper, mirror: Mirror) -> None:
        self._hypervisor = hypervisor
        self._guard = guard
        self._disks = disks
        self._mirror = mirror
        self.not_entitled: str | None = None

    async def refusal(self, spec: RoleSpec) -> str | None:
        """Why the guard lets no guest start now, or None when it does."""
        try:
            return None if await self._is_entitled(spec) else self.not_entitled
        except Unavailable as error:
            return error.message

    async def list_with_guard(self, uuids: Iterable[str]) -> None:
        """See to it that the guard's list has every guest that runs for this node, adopted ones too. Source: SAFE-1.

        Raises: Unavailable.
        """
        reading = await self._guard.state()
        if reading.is_entitled:
            self.not_entitled = None
        for uuid in uuids:
            if uuid not in reading.guests:
                await self._guard.protect(uuid)

    async def begin(self, act: Act, spec: RoleSpec, ownership: Ownership) -> Outcome:
        """Start a guest, make its process from memory, or let the one that is there go on.

        No process is made before nothing can land any more of what the role's earlier ones wrote. Source: SAFE-1.
        """
        await self._disks.take(spec.disks)
        if act is not Act.RESUME:
            await self._disks.come_back(spec.disks)
        with self._disks.used_by(spec.uuid, spec.disks) as problem:
            if act is Act.RESUME:
                return await self.agent(spec).go_on()
            if problem is not None:
                return Outcome(kind=OutcomeKind.FAILED, detail=problem)
            if (unsettled := await self._disks.settle(spec.disks, ownership.lingering)) is not None:
                return Outcome(kind=OutcomeKind.FAILED, detail=unsettled)
            memory = ownership.memory
            if act is Act.RESTORE and memory is not None:
                return await self.agent(spec).restore(memory.path, memory.id)
            return await self.agent(replace(spec, domain_xml=self._domain_xml(spec))).online()

    def _domain_xml(self, spec: RoleSpec) -> str:
        """The domain with what QEMU opens for the shared disks of the cluster. Raises: NotFound."""
        snapshot = self._mirror.snapshot
        known = snapshot.disks if snapshot is not None else {}
        sources = {name: disk.value.filled(disk.value.guest_source) for name, disk in known.items()}
        return with_sources(spec.domain_xml, sources) if spec.disks else spec.domain_xml

    def agent(self, spec: RoleSpec) -> VirtualMachine:
        """The guest as a resource."""
        return VirtualMachine(
            host=self._hypervisor,
            name=spec.name,
            uuid=spec.uuid,
            domain_xml=spec.domain_xml,
            may_run=partial(self._may_run, spec),
            shutdown_timeout_ms=spec.shutdown_timeout_ms,
        )

    async def _is_entitled(self, spec: RoleSpec) -> bool:
        """Put the guest on the guard's list; only an acknowledged entry lets it start. Source: SAFE-1."""
        entitled = await self._guard.protect(spec.uuid)
        self.not_entitled = None if entitled else "it is not entitled to own roles now: too few voters hear it"
        return entitled

    async def _may_run(self, spec: RoleSpec) -> bool:
        """Asked when its process exists: whether it may execute, and whether its disks would take its writes."""
        return await self._is_entitled(spec) and self._disks.problem(spec.disks) is None
