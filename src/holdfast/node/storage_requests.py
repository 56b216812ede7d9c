"""What a person asks about shared disks: find, check, add, show, remove.

Rule of the file: a disk of the cluster is only read, for every node relies on its reservation; keys are tried out only
on a disk without a record, and that nobody registered with. Source: SAFE-1, docs/storage.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from holdfast.hypervisor.disk_sources import parse_source
from holdfast.model.disk_status import (
    AddedDisk,
    CheckResult,
    CheckStep,
    DiskCheck,
    DiskNode,
    DiskStatus,
    RemovedDisk,
    SeenDisk,
)
from holdfast.model.disks import DiskSpec, DiskState, Protection, reservation_key
from holdfast.model.errors import Conflict, InvalidInput, NotFound, Refused
from holdfast.model.events import EventCode
from holdfast.model.ids import DiskName
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.commits import Commits, wait_change
from holdfast.node.line_protocol import Result
from holdfast.node.spec_transactions import add_disk, remove_disk
from holdfast.node.storage_params import AddDiskParams, DiscoverParams, DiskParams, ListParams, RehearseParams
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.outcome import Done
from holdfast.storage.port import Lun
from holdfast.storage.slots import SLOTS_MAX, is_vacant
from holdfast.storage.survey import survey_portal, survey_ways
from holdfast.storage.validation import Check, Expected, clear_keys
from holdfast.storage.ways import USUAL_PATTERNS, WayKind, open_disk, open_lun, parse_way
from holdfast.store.port import Txn
from holdfast.store.records import DISKS, decode

NODES_WAIT_S: Final = 15.0
READS: Final = frozenset(("storage.discover", "storage.list", "storage.show", "storage.validate"))
"""What is answered without a majority of voters: it writes to no disk and to no database."""


class StorageRequests:
    """Answers the requests about disks, as this node sees them."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._events = commits.events
        self._answers: Final[dict[str, Callable[[dict[str, Any]], Awaitable[object]]]] = {
            "storage.discover": self._discover,
            "storage.list": self._list,
            "storage.show": self._show,
            "storage.validate": self._validate,
            "storage.rehearse": self._rehearse,
            "storage.add": self._add,
            "storage.remove": self._remove,
        }
        self.methods: Final = frozenset(self._answers)

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer one request by a `Result`."""
        yield Result(await self._answers[method](params))

    async def _discover(self, params: dict[str, Any]) -> object:
        wanted = DiscoverParams.model_validate(params)
        snapshot = await self._commits.snapshot()
        if wanted.portal is None:
            seen = await survey_ways(wanted.ways or USUAL_PATTERNS)
        else:
            chap = None if wanted.chap is None else Chap(user=wanted.chap.user, password=wanted.chap.password)
            initiator = wanted.initiator or _initiator(snapshot, self._commits.life.me)
            seen = await survey_portal(wanted.portal, initiator=initiator, chap=chap)
        names = {disk.value.designator: str(name) for name, disk in snapshot.disks.items()}
        return tuple(_named(disk, names) for disk in seen)

    async def _list(self, params: dict[str, Any]) -> object:
        ListParams.model_validate(params)
        snapshot = await self._commits.snapshot()
        return tuple(disk_status(disk.value, snapshot) for _, disk in sorted(snapshot.disks.items()))

    async def _show(self, params: dict[str, Any]) -> object:
        snapshot = await self._commits.snapshot()
        return disk_status(find_disk(snapshot, DiskParams.model_validate(params).disk).value, snapshot)

    async def _validate(self, params: dict[str, Any]) -> object:
        snapshot = await self._commits.snapshot()
        spec = find_disk(snapshot, DiskParams.model_validate(params).disk).value
        keys = node_keys(snapshot)
        mine = next((key for key, node in keys.items() if node == self._commits.life.me), None)
        expected = Expected(
            designator=spec.designator,
            size_bytes=spec.size_bytes,
            keys=keys,
            own_key=mine if spec.protection is Protection.NODE or self._is_ready(spec, snapshot) else None,
            is_in_cluster=True,
        )
        lun = open_disk(spec)
        try:
            check = Check(lun)
            await check.inspect(expected)
        finally:
            await lun.close()
        if mine is None:
            check.steps.append(_step("node", CheckResult.FAILED, f"{self._commits.life.me} has no session now"))
        words = "not tried: the disk is in the cluster, where every node relies on its reservation"
        check.steps.append(_step("rehearsal", CheckResult.SKIPPED, words))
        return self._document(check, spec.filled(spec.reservations), disk=spec.name)

    def _is_ready(self, spec: DiskSpec, snapshot: Snapshot) -> bool:
        report = snapshot.reports.get(self._commits.life.me)
        health = report.value.disks.get(spec.name) if report is not None else None
        return health is not None and health.is_ready

    async def _rehearse(self, params: dict[str, Any]) -> object:
        way = parse_way(RehearseParams.model_validate(params).way)
        lun = open_lun(way)
        try:
            check = Check(lun)
            await check.inspect(Expected(keys=node_keys(await self._commits.snapshot())))
            await self._try_keys(check)
        finally:
            await lun.close()
        return self._document(check, str(way))

    async def _try_keys(self, check: Check) -> None:
        """Try keys out, on a disk that has passed so far and that the database knows nothing of now."""
        listing = await self._commits.store.list(DISKS)
        for item in listing.items:
            if (known := decode(DiskSpec, item.key, item.value)).designator == check.designator:
                hint = f"check it as what it is: holdfast storage validate {known.name}"
                raise Refused(f"{check.designator} is disk {known.name} of the cluster already", hint=hint)
        if check.has_passed:
            await check.rehearse(_new_key(), nobody=_new_key())
        else:
            words = "not tried: an earlier step failed, or somebody uses the disk"
            check.steps.append(_step("rehearsal", CheckResult.SKIPPED, words))

    async def _add(self, params: dict[str, Any]) -> object:
        wanted = AddDiskParams.model_validate(params)
        unchecked = _spec(wanted, self._commits.life.clock.wall_ms())
        _check_addition(unchecked, await self._commits.snapshot())
        lun = open_disk(unchecked)
        try:
            check = await self._check_new(unchecked, lun, wanted)
            if unchecked.is_heartbeat and check.has_passed:
                check.steps.append(await _vacant(lun))
        finally:
            await lun.close()
        document = self._document(check, unchecked.filled(unchecked.reservations), disk=unchecked.name)
        if not document.is_fit:
            raise _unfit(unchecked, document)
        forgets = not check.keeps_reservations
        if forgets and not wanted.accept_forgetful:
            raise Refused(
                f"the target of {unchecked.designator} forgets reservations when it loses power: then a node that was "
                "fenced by them alone could write again",
                hint="turn on APTPL at the target, or accept it with --accept-forgetful; see docs/storage.md",
            )
        spec = replace(unchecked, size_bytes=check.size_bytes, forgets_reservations=forgets)

        def attempt(snapshot: Snapshot) -> tuple[Txn, DiskName]:
            _check_addition(spec, snapshot)
            cluster = snapshot.cluster
            assert cluster is not None, "a snapshot is handed out only with the cluster's record"
            counted = replace(cluster.value, role_set=cluster.value.role_set + 1)
            event = self._events.event(EventCode.DISK_ADDED, spec.name)
            return add_disk(spec, cluster=cluster, counted=counted, events=self._events.operations(event)), spec.name

        await self._commits.change(attempt)
        if wanted.wait:
            await self._wait_nodes(spec.name)
        return AddedDisk(disk=disk_status(spec, await self._commits.snapshot()), check=document)

    async def _wait_nodes(self, disk: DiskName) -> None:
        """Wait until every node that is up is done with registering, or for a while."""
        until = asyncio.get_running_loop().time() + NODES_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        while asyncio.get_running_loop().time() < until:
            snapshot = await self._commits.snapshot()
            found = [snapshot.reports.get(node) for node in snapshot.sessions]
            states = [report.value.disks[disk].state for report in found if report and disk in report.value.disks]
            if len(states) == len(found) and DiskState.NOT_REGISTERED not in states:
                return
            await wait_change(changed)

    async def _check_new(self, spec: DiskSpec, lun: Lun, wanted: AddDiskParams) -> Check:
        """Inspect and rehearse; with `clear_keys`, once more after whatever is registered was removed."""
        expected = Expected(designator=spec.designator, keys=node_keys(await self._commits.snapshot()))
        check = Check(lun)
        await check.inspect(expected)
        is_only_used = check.designator == spec.designator and check.holders is not None and not check.has_passed
        if wanted.clear_keys and is_only_used:
            problem = await clear_keys(lun, _new_key())
            check = Check(lun)
            await check.inspect(expected)
            result = CheckResult.FAILED if problem else CheckResult.WARNING
            check.steps.append(_step("clear keys", result, problem or "what others had registered is removed"))
        await self._try_keys(check)
        return check

    async def _remove(self, params: dict[str, Any]) -> object:
        wanted = DiskParams.model_validate(params).disk

        def attempt(snapshot: Snapshot) -> tuple[Txn, RemovedDisk]:
            before = find_disk(snapshot, wanted)
            if users := users_of(before.value.name, snapshot):
                raise Refused(
                    f"disk {wanted} is used by {', '.join(users)}",
                    hint=f"remove the role first: holdfast vm remove {users[0]}",
                )
            cluster = snapshot.cluster
            assert cluster is not None, "a snapshot is handed out only with the cluster's record"
            counted = replace(cluster.value, role_set=cluster.value.role_set + 1)
            events = self._events.operations(self._events.event(EventCode.DISK_REMOVED, wanted))
            txn = remove_disk(before, cluster=cluster, counted=counted, events=events)
            return txn, RemovedDisk(name=wanted)

        return await self._commits.change(attempt)

    def _document(self, check: Check, way: str, *, disk: str | None = None) -> DiskCheck:
        return DiskCheck(
            way=way, node=self._commits.life.me, steps=tuple(check.steps), is_fit=check.has_passed, disk=disk
        )


def find_disk(snapshot: Snapshot, name: str) -> Versioned[DiskSpec]:
    """Return a disk's record. Raises: NotFound."""
    found = snapshot.disks.get(DiskName(name))
    if found is None:
        known = ", ".join(sorted(snapshot.disks)) or "none yet"
        raise NotFound(f"there is no disk {name!r} in the cluster", hint=f"disks are: {known}")
    return found


def users_of(disk: DiskName, snapshot: Snapshot) -> tuple[str, ...]:
    """The roles that use a disk."""
    return tuple(sorted(role for role, spec in snapshot.specs.items() if disk in spec.value.disks))


def disk_status(spec: DiskSpec, snapshot: Snapshot) -> DiskStatus:
    """One disk in full, as the nodes reported it."""
    found = {str(node): report.value.disks.get(spec.name) for node, report in sorted(snapshot.reports.items())}
    return DiskStatus(
        name=spec.name,
        designator=spec.designator,
        size_bytes=spec.size_bytes,
        guest_source=spec.filled(spec.guest_source),
        reservations=spec.filled(spec.reservations),
        forgets_reservations=spec.forgets_reservations,
        is_heartbeat=spec.is_heartbeat,
        added_at_ms=spec.added_at_ms,
        protection=spec.protection,
        used_by=users_of(spec.name, snapshot),
        nodes={
            node: DiskNode(
                state=health.state, detail=health.detail, latency_ms=health.latency_ms, is_slow=health.is_slow
            )
            for node, health in found.items()
            if health is not None
        },
    )


def node_keys(snapshot: Snapshot) -> dict[int, str]:
    """The keys of the nodes that are up or were lost, with words for them."""
    assert snapshot.cluster is not None, "a snapshot is handed out only with the cluster's record"
    cluster = snapshot.cluster.value.id
    lost = {reservation_key(cluster, v.value.incarnation): f"{node} (lost)" for node, v in snapshot.verdicts.items()}
    up = {reservation_key(cluster, s.value.incarnation): str(node) for node, s in snapshot.sessions.items()}
    return lost | up


def _spec(wanted: AddDiskParams, now_ms: int) -> DiskSpec:
    """The record as it is asked for. Raises InvalidInput."""
    spec = DiskSpec(
        name=DiskName(wanted.disk),
        designator=wanted.designator,
        size_bytes=0,
        guest_source=wanted.guest_source or "",
        reservations=wanted.reservations,
        is_heartbeat=wanted.heartbeat,
        added_at_ms=now_ms,
        protection=wanted.protection,
    )
    if spec.is_heartbeat:
        if spec.guest_source:
            raise InvalidInput(f"no guest may open heartbeat disk {spec.name}", hint="leave --guest-source out")
        parse_way(spec.filled(spec.reservations))
        return spec
    way = parse_way(spec.filled(spec.reservations))
    if not spec.guest_source and way.kind is WayKind.HELPER:
        raise InvalidInput(
            f"what QEMU opens for {spec.name} does not follow from {spec.reservations}",
            hint="give --guest-source, for example nbd+unix:///{designator}?socket=/run/…",
        )
    spec = replace(spec, guest_source=spec.guest_source or way.path)
    parse_source(spec.filled(spec.guest_source))
    return spec


def _check_addition(spec: DiskSpec, snapshot: Snapshot) -> None:
    """Refuse a disk that is there already under its name, or as what it is. Raises: Conflict."""
    if spec.name in snapshot.disks:
        raise Conflict(f"there is a disk {spec.name!r} already", hint="holdfast storage list shows them")
    for name, other in sorted(snapshot.disks.items()):
        if other.value.designator == spec.designator:
            raise Conflict(f"{spec.designator} is disk {name} already", hint=f"holdfast storage show {name}")
        if spec.guest_source and other.value.filled(other.value.guest_source) == spec.filled(spec.guest_source):
            raise Conflict(
                f"disk {name} has the guest source {spec.guest_source} already", hint="each disk has one of its own"
            )


def _unfit(spec: DiskSpec, check: DiskCheck) -> Refused:
    failed = [f"{step.name}: {step.words}" for step in check.steps if step.result is CheckResult.FAILED]
    hint = f"look at all steps: holdfast storage validate {check.way}"
    if [step.name for step in check.steps if step.result is CheckResult.FAILED] == ["reservations"]:
        hint = f"when nobody uses {spec.designator} any more, add it with --clear-keys"
    return Refused(f"disk {spec.name} is not fit for the cluster: {'; '.join(failed)}", hint=hint)


async def _vacant(lun: Lun) -> CheckStep:
    """Whether stamping a disk would destroy nothing."""
    size = await lun.capacity()
    if isinstance(size, Done) and await is_vacant(lun, size.value.block_bytes):
        return _step("slots", CheckResult.OK, f"nothing is in its first {SLOTS_MAX} blocks")
    words = f"its first {SLOTS_MAX} blocks, where the nodes would stamp, could not be read, or hold something"
    return _step("slots", CheckResult.FAILED, words)


def _named(disk: SeenDisk, names: dict[str, str]) -> SeenDisk:
    return replace(disk, disk=names.get(disk.designator))


def _initiator(snapshot: Snapshot, node: str) -> str:
    assert snapshot.cluster is not None, "a snapshot is handed out only with the cluster's record"
    return f"iqn.2026-11.net.holdfast:{snapshot.cluster.value.id}.{node}"


def _new_key() -> int:
    return secrets.randbits(63) + 1


def _step(name: str, result: CheckResult, words: str) -> CheckStep:
    return CheckStep(name=name, result=result, words=words)
