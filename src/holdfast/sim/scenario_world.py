"""From a scenario to the records that its cluster begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from holdfast.hypervisor.errors import GuestStartFailed
from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.model.ids import DiskName, NetworkName, NodeName, RoleName, SiteName
from holdfast.model.nodes import Capacity, NodeSpec
from holdfast.model.roles import Failback, Label, Priority, RoleSpec
from holdfast.model.settings import Settings
from holdfast.node.settings_words import changed_settings
from holdfast.sim.breakage import Breakage
from holdfast.sim.layout import Layout, Make, disk_spec, domain_xml, node_spec, uuid_of, voters_among
from holdfast.sim.scenario import Scenario
from holdfast.sim.scenario_cluster import LabelPart, NodePart, RoleChoicesPart, RolePart
from holdfast.sim.scenario_events import StartFailsPart
from holdfast.sim.truth import Truth
from holdfast.sim.twins import MachineHypervisor
from holdfast.sim.world import World
from holdfast.storage.simulated_disk import DiskTraits

SHUTDOWN_MS: Final = 5_000


@dataclass(slots=True)
class Refusal:
    """Starts that are still to fail."""

    what: StartFailsPart
    left: int


class Refusals:
    """Which starts of guests fail, over the whole cluster and over starts of machines."""

    def __init__(self, uuids: dict[str, str]) -> None:
        self._uuids = uuids
        self._refusals: list[Refusal] = []

    def add(self, what: StartFailsPart) -> None:
        """Let the next ones fail."""
        self._refusals.append(Refusal(what, what.times))

    def take(self, node: str, uuid: str) -> bool:
        """Whether this start fails; it is counted."""
        for refusal in self._refusals:
            wanted = self._uuids.get(refusal.what.role or "")
            if refusal.left and refusal.what.node in (None, node) and wanted in (None, uuid):
                refusal.left -= 1
                return True
        return False

    def hypervisor(self, node: str, truth: Truth, neighbourhood: Neighbourhood) -> MachineHypervisor:
        """A hypervisor that heeds them."""
        return _RefusingHypervisor(node, truth, neighbourhood, self)


class _RefusingHypervisor(MachineHypervisor):
    def __init__(self, node: str, truth: Truth, neighbourhood: Neighbourhood, refusals: Refusals) -> None:
        super().__init__(node, truth, neighbourhood)
        self._refusals = refusals

    def _boot(self, uuid: str, name: str) -> None:
        if self._refusals.take(self._node, uuid):
            raise GuestStartFailed(f"Guest {uuid} could not be started: the scenario lets it fail")
        super()._boot(uuid, name)


def uuids_of(scenario: Scenario) -> dict[str, str]:
    """The uuid of every role that there is or will be, by its name."""
    names = [role.name for role in scenario.all_roles()]
    names += [event.role_add.name for event in scenario.events if event.role_add is not None]
    return {name: uuid_of(number) for number, name in enumerate(names, start=1)}


def make_world(scenario: Scenario, refusals: Refusals, *, seed: int, breakage: Breakage) -> World:
    """The world of a scenario, with its nodes and no roles yet. Starts fail as `refusals` say."""
    networks = tuple(NetworkName(name) for name in scenario.cluster.networks)
    nodes = tuple(_nodes(scenario, networks))
    layout = Layout(
        nodes=nodes,
        roles=(),
        settings=changed_settings(Settings(), scenario.cluster.settings),
        watchdog_s={NodeName(node.name): None if node.witness else node.watchdog for node in scenario.all_nodes()},
        clock_drift={NodeName(node.name): node.clock_drift for node in scenario.all_nodes()},
        disks=tuple(
            disk_spec(number, DiskName(disk.name), has_helper=disk.helper)
            for number, disk in enumerate(scenario.all_disks(), 1)
        ),
    )
    make = Make(
        nodes=len(nodes),
        votes=scenario.do_votes_move,
        networks=networks,
        are_guests_deaf=scenario.cluster.guests_ignore_power_button,
        target=DiskTraits(can_survive_power_loss=scenario.cluster.target_keeps_registrations),
        paths=scenario.cluster.paths,
    )
    world = World(make, seed=seed, breakage=replace(breakage, hypervisor=refusals.hypervisor), layout=layout)
    world.truth.names |= {uuid: name for name, uuid in uuids_of(scenario).items()}
    return world


def _nodes(scenario: Scenario, networks: tuple[NetworkName, ...]) -> list[NodeSpec]:
    nodes = scenario.all_nodes()
    voters = _moving_voters(scenario, nodes) if scenario.do_votes_move else _voters(nodes)
    specs = []
    for number, node in enumerate(nodes, start=1):
        spec = node_spec(
            number,
            name=NodeName(node.name),
            of=len(nodes),
            networks=networks,
            has_fence=node.fence and not node.witness,
        )
        specs.append(
            replace(
                spec,
                is_voter=node.name in voters,
                is_witness=node.witness,
                seat=number if scenario.do_votes_move and node.name in voters else None,
                capacity=Capacity(memory_bytes=node.memory, vcpus=node.vcpus),
                site=SiteName(node.site) if node.site is not None else None,
            )
        )
    return specs


def _voters(nodes: tuple[NodePart, ...]) -> list[str]:
    """Those that are chosen, else as many of the first ones as vote in a cluster of this size."""
    chosen = [node.name for node in nodes if node.voter]
    left = [node.name for node in nodes if node.voter is not False]
    return chosen or left[: voters_among(len(left))]


def _moving_voters(scenario: Scenario, nodes: tuple[NodePart, ...]) -> list[str]:
    """Those that are chosen, else an odd number of the first ones, with a witness among the first two."""
    if chosen := [node.name for node in nodes if node.voter]:
        return chosen
    able = [node.name for node in nodes if node.voter is not False and not node.witness]
    able[1:1] = [node.name for node in nodes if node.witness]
    settings = changed_settings(Settings(), scenario.cluster.settings)
    count = min(len(able), settings.voters_at_most)
    return able[: count - 1 + count % 2]


def role_spec(role: RolePart, uuid: str) -> RoleSpec:
    """The record of a role."""
    name = RoleName(role.name)
    spec = RoleSpec(
        name=name,
        uuid=uuid,
        domain_xml=domain_xml(name, uuid, memory_bytes=role.memory, vcpus=role.vcpus),
        memory_bytes=role.memory,
        vcpus=role.vcpus,
        disk_paths=(),
        disks=tuple(map(DiskName, role.disks)),
        wanted=role.wanted,
        shutdown_timeout_ms=SHUTDOWN_MS,
    )
    changes: dict[str, Any] = dict(choices_of(role))
    if role.priority is not None:
        changes["priority"] = Priority[role.priority.upper().replace("-", "_")]
    for key, period in (("restart_period_s", role.restart_period), ("failover_period_s", role.failover_period)):
        if period is not None:
            changes[key] = round(period)
    return replace(spec, **changes)


def choices_of(choices: RoleChoicesPart) -> dict[str, object]:
    """What was chosen for a role, by the names of its record; what was not is absent."""
    failback, timeout_s = choices.failback, choices.shutdown_timeout
    found = {
        "priority": choices.priority,
        "preferred_owners": choices.preferred_owners,
        "possible_owners": choices.possible_owners,
        "preferred_site": choices.preferred_site,
        "affinity": _labels(choices.affinity),
        "anti_affinity": _labels(choices.anti_affinity),
        "restart_limit": choices.restart_limit,
        "failover_limit": choices.failover_limit,
        "failback": None
        if failback is None
        else Failback(policy=failback.policy, from_hour=failback.from_hour, until_hour=failback.until_hour),
        "on_storage_loss": choices.on_storage_loss,
        "shutdown_timeout_ms": None if timeout_s is None else round(timeout_s * 1000),
    }
    return {key: value for key, value in found.items() if value is not None}


def _labels(labels: tuple[LabelPart, ...] | None) -> tuple[Label, ...] | None:
    return None if labels is None else tuple(Label(name=label.name, is_hard=label.hard) for label in labels)
