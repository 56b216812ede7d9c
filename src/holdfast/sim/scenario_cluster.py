"""The cluster of a scenario: settings, nodes and roles as they are when its time line begins."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool

from holdfast.model.roles import FailbackPolicy, StorageLoss, Wanted
from holdfast.node.request_params import PriorityName
from holdfast.sim.scenario_values import Duration, MaybeNames, Name, Names, Part, Size, read_as

GIB = 2**30


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


class Votes(StrEnum):
    """Whether votes move."""

    AUTO = "auto"
    MOVING = "moving"
    FIXED = "fixed"


class ClusterPart(Part):
    """What is set for the whole cluster."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings by the names that `holdfast cluster set` takes, such as `timings.patience_ms: 8000`."""

    networks: Annotated[Names, Field(min_length=1)] = ("cluster-a", "cluster-b")
    """Names of the cluster networks, in order of preference."""

    guests_ignore_power_button: StrictBool = False
    """Whether no guest shuts down when asked, so that each must be ended by force."""

    target_keeps_registrations: StrictBool = True
    """Whether the target of the shared disks keeps who may write over a restart."""

    paths: Annotated[int, Field(strict=True, ge=1, le=4)] = 1
    """How many ways every node has to the shared disks."""

    votes: Votes = Votes.AUTO
    """`moving`: the coordinator keeps an odd number of voters, as in a real cluster; `fixed`: the same nodes always
    vote; `auto`: moving beside a witness, where voters are expected, and with events of members, `evict` and so on."""


def _read_watchdog(value: object) -> object:
    return None if value == "none" else value


class NodePart(Part):
    """A node, or several alike."""

    name: Name
    """Its name; with `count`, what its number is put after."""

    count: Annotated[int, Field(strict=True, ge=1, le=64)] | None = None
    """How many nodes alike: `name: node, count: 3` gives node1, node2 and node3."""

    site: Name | None = None
    """The site it belongs to."""

    memory: Size = 8 * GIB
    """Memory for guests."""

    vcpus: Annotated[int, Field(strict=True, ge=1)] = 8
    """Virtual CPUs for guests, before the cluster's overcommit."""

    fence: StrictBool = True
    """Whether it has a fence device."""

    watchdog: Annotated[
        Duration | None, BeforeValidator(_read_watchdog, json_schema_input_type=Duration | Literal["none"] | None)
    ] = 3.0
    """Time-out of its hardware watchdog; `none` when it has no watchdog."""

    clock_drift: Annotated[float, Field(ge=-0.5, le=0.5)] = 0.0
    """The share by which its clock is too fast; negative: too slow. An oscillator is off by 0.0001."""

    voter: StrictBool | None = None
    """Whether it votes. When no node is chosen: an odd number of the first ones, up to 5, and both of two."""

    witness: StrictBool = False
    """Whether it is a witness: it votes and runs no guests. It has neither fence device nor watchdog."""

    power: Switch = Switch.ON
    """Whether it has power at first."""

    networks_off: MaybeNames = ()
    """Networks whose cable is out at first."""


class DiskPart(Part):
    """A shared disk with reservations, or several alike."""

    name: Name
    """Its name; with `count`, what its number is put after."""

    count: Annotated[int, Field(strict=True, ge=1, le=16)] | None = None
    """How many disks alike: `name: disk, count: 2` gives disk1 and disk2."""

    helper: StrictBool = False
    """Whether a helper has what guests wrote there: they end while a path is out, and their writes arrive later."""


class LabelPart(Part):
    """An affinity label; a plain name is a soft one."""

    name: Name
    """Roles that share it are placed together, or apart."""

    hard: StrictBool = False
    """Whether a role rather stays blocked than be placed against it."""


Label = Annotated[LabelPart, read_as("name", Name, LabelPart)]
Labels = Annotated[
    tuple[Label, ...],
    BeforeValidator(
        lambda value: value if isinstance(value, list | tuple) else (value,),
        json_schema_input_type=Name | LabelPart | list[Name | LabelPart],
    ),
]
"""One, or a list."""


class FailbackPart(Part):
    """When a role returns to an owner that it prefers to the present one; a plain word is the policy."""

    policy: FailbackPolicy = FailbackPolicy.NEVER
    """`never`, `at-once`, or `window`."""

    from_hour: Annotated[int, Field(strict=True, ge=0, le=23)] = 0
    """With `window`: the hour of the day, in UTC, at which it opens. The simulated world begins at 08:00 UTC."""

    until_hour: Annotated[int, Field(strict=True, ge=0, le=23)] = 0
    """With `window`: the hour at which it closes."""


class RoleChoicesPart(Part):
    """What can be chosen for a role and changed later; left out, the default holds or nothing changes."""

    priority: PriorityName | None = None
    """Order of placement; `no-autostart` is never started or failed over by itself. Default: medium."""

    preferred_owners: MaybeNames | None = None
    """Nodes that it prefers, in this order."""

    possible_owners: MaybeNames | None = None
    """Nodes that may own it; none given: every node."""

    preferred_site: Name | None = None
    """The site that it prefers, after the preferred owners."""

    affinity: Labels | None = None
    """Labels: roles that share one want the same node."""

    anti_affinity: Labels | None = None
    """Labels: roles that share one want different nodes."""

    restart_limit: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    """Restarts in place within `restart-period`; after that it fails over. Default: 2."""

    failover_limit: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    """Failovers because it failed itself within `failover-period`; after that it is blocked. Default: 3."""

    failback: Annotated[FailbackPart, read_as("policy", FailbackPolicy, FailbackPart)] | None = None
    """When it returns to an owner that it prefers to the present one. Default: never."""

    on_storage_loss: StorageLoss | None = None
    """What becomes of it when its node loses a shared disk of it: `wait`, or `move`. Default: wait."""

    shutdown_timeout: Duration | None = None
    """How long its guest may take to shut down before it is ended by force. Default: 5 s."""


class RolePart(RoleChoicesPart):
    """A role, or several alike: a virtual machine."""

    name: Name
    """Its name; with `count`, what its number is put after."""

    count: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    """How many roles alike: `name: web, count: 3` gives web1, web2 and web3."""

    memory: Size = GIB
    """Memory of its guest, in whole MiB."""

    vcpus: Annotated[int, Field(strict=True, ge=1)] = 1
    """Virtual CPUs of its guest."""

    wanted: Wanted = Wanted.ONLINE
    """`online` or `offline`."""

    disks: MaybeNames = ()
    """The shared disks that its guest writes to. Left out: a disk of its own that no reservation protects."""

    first_owner: Name | None = None
    """The node on which it runs when the time line begins; left out: where the cluster places it."""

    restart_period: Duration | None = None
    """The time in which restarts are counted. Default: 15 min."""

    failover_period: Duration | None = None
    """The time in which failovers are counted. Default: 6 h."""


def _read_count(kind: str, part: type[Part]) -> BeforeValidator:
    def read(value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return [{"name": kind, "count": value}] if is_number else value

    return BeforeValidator(read, json_schema_input_type=Annotated[int, Field(strict=True, ge=1)] | list[part])  # type: ignore[valid-type]  # a type made at run time


Nodes = Annotated[tuple[NodePart, ...], _read_count("node", NodePart), Field(min_length=1)]
"""A number, or a list."""

Disks = Annotated[tuple[DiskPart, ...], _read_count("disk", DiskPart)]
"""A number, or a list."""

Roles = Annotated[tuple[RolePart, ...], _read_count("web", RolePart)]
"""A number, or a list."""
