"""What people do at bad moments: they move roles, empty nodes, freeze the cluster, change settings, confirm deaths.

Rule of the file: see `fault_targets`. Whatever was changed is changed back at the end, however often that takes; what a
late request changes after that is seen to by `tidy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from holdfast.model.ids import DiskName
from holdfast.model.nodes import NodeReport, NodeSpec
from holdfast.model.roles import Wanted
from holdfast.model.snapshot import ClusterRecord
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of
from holdfast.sim.people import WHO
from holdfast.sim.voter_faults import join_again
from holdfast.sim.world import World
from holdfast.store.records import CLUSTER, NODES, REPORTS, decode

UNPROTECTED: Final = "disk-unprotected"
SLOWER: Final = {"timings.patience_ms": 7500, "timings.guard_deadline_ms": 6500}
USUAL: Final = {"timings.patience_ms": 5000, "timings.guard_deadline_ms": 4000}
"""Settings, what they are changed to and back."""


def _role_restarted(world: World, fault: Fault) -> End:
    """A person stops a role, and starts it again when the fault ends."""
    roles = world.roles()
    role = roles[fault.target % len(roles)]
    world.stop_role(role.name)
    return lambda: world.start_role(role.name)


def _role_moved(world: World, fault: Fault) -> End:
    roles = world.roles()
    params: dict[str, Any] = {"role": roles[fault.target % len(roles)].name, "wait": False}
    if fault.amount < 0.8:
        params["to"] = machine_of(world, fault.other).name
    return _stopped(world.people.ask("role.move", params, first=fault.other))


def _node_drained(world: World, fault: Fault) -> End:
    node = machine_of(world, fault.target).name
    back = {"node": node, "failback": "now" if fault.amount < 0.5 else "never"}
    return _and_back(world, fault, ("node.drain", {"node": node, "wait": False, "force": True}), ("node.resume", back))


def _cluster_frozen(world: World, fault: Fault) -> End:
    return _and_back(
        world, fault, ("cluster.freeze", {"person": WHO, "reason": "work on the switch"}), ("cluster.unfreeze", {})
    )


def _settings_changed(world: World, fault: Fault) -> End:
    return _and_back(world, fault, ("cluster.set", {"changes": SLOWER}), ("cluster.set", {"changes": USUAL}))


def _person_confirms(world: World, _: Fault) -> End:
    """A person walks along the machines, and confirms those down that are lost and off."""
    return _stopped(world.people.walk())


Asked = tuple[str, Mapping[str, Any]]


def _and_back(world: World, fault: Fault, there: Asked, back: Asked) -> End:
    asking = world.people.ask(*there, first=fault.other)

    def end() -> None:
        asking.cancel()
        world.people.ask(*back, first=fault.other)

    return end


def _stopped(task: asyncio.Task[None]) -> End:
    def stop() -> None:
        task.cancel()

    return stop


def tidy(world: World) -> None:
    """See to it that nothing stays drained, frozen or out of the cluster, and no disk unprotected."""
    _protect_again(world)
    for machine in world.machines.values():
        if machine.is_out:
            join_again(world, machine)
    for item in world.database.listing(NODES).items:
        node = decode(NodeSpec, item.key, item.value)
        if node.is_paused:
            world.people.ask("node.resume", {"node": node.name, "failback": "never"})
    cluster = world.database.get(CLUSTER)
    if cluster is not None and decode(ClusterRecord, CLUSTER, cluster.value).frozen is not None:
        world.people.ask("cluster.unfreeze", {})


def _protect_again(world: World) -> None:
    """Stop every role on a disk whose target forgot who may write; start those whose disks are protected again."""
    reports = [decode(NodeReport, item.key, item.value) for item in world.database.listing(REPORTS).items]
    lapsed = {DiskName(one.subject) for report in reports for one in report.conditions if one.code == UNPROTECTED}
    for role in world.roles():
        if role.wanted is Wanted.ONLINE and not lapsed.isdisjoint(role.disks):
            world.stop_role(role.name)
        elif role.wanted is Wanted.OFFLINE and lapsed.isdisjoint(role.disks):
            world.start_role(role.name)


PERSON_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.ROLE_RESTARTED: _role_restarted,
    FaultKind.ROLE_MOVED: _role_moved,
    FaultKind.NODE_DRAINED: _node_drained,
    FaultKind.CLUSTER_FROZEN: _cluster_frozen,
    FaultKind.SETTINGS_CHANGED: _settings_changed,
    FaultKind.PERSON_CONFIRMS: _person_confirms,
}
