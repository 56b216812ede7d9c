"""What can happen in a scenario: one key per kind of event.

Rule of the file: a kind of event is a field of `EventPart`; what it does is in `scenario_acts` (things that break) and
`scenario_requests` (what a person asks for), under the same name. A test compares.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictBool

from holdfast.model.nodes import Return
from holdfast.sim.scenario_cluster import RoleChoicesPart, RolePart
from holdfast.sim.scenario_values import Duration, MaybeNames, Name, Names, Part, SignedDuration, read_as


class CablePart(Part):
    """Cables of nodes; a plain name or list means all networks of these nodes."""

    node: Names
    """The nodes."""

    network: MaybeNames = ()
    """The networks; none given: all."""


class CutPart(Part):
    """The ways between two groups of nodes."""

    from_: Names
    """The nodes on one side."""

    to: Names
    """The nodes on the other side."""

    network: MaybeNames = ()
    """The networks; none given: all."""

    one_way: StrictBool = False
    """Whether only what goes from `from` to `to` is lost, and the other direction works."""


class ResumePart(Part):
    """Nodes to resume; a plain name or list leaves the return of roles to their own policies."""

    node: Names
    """The nodes."""

    failback: Return = Return.POLICY
    """What becomes of the roles that the drain moved away: `policy`, `now` or `never`."""


class MovePart(Part):
    """A planned move."""

    role: Name
    """The role."""

    to: Name | None = None
    """Where to; left out: where the cluster places it."""


class RoleSetPart(RoleChoicesPart):
    """Changes to a role."""

    role: Name
    """The role."""


class StartFailsPart(Part):
    """Starts of guests that fail, counted over the whole cluster."""

    role: Name | None = None
    """Only starts of this role."""

    node: Name | None = None
    """Only starts on this node."""

    times: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """So many of the next ones fail."""


class JumpPart(Part):
    """A jump of a wall clock."""

    node: Names
    """The nodes."""

    by: SignedDuration
    """How far, from now on; negative: back."""


class WeatherPart(Part):
    """How packets fare on all networks from now on; `{}` is clear weather."""

    loss: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    """The share of packets that is lost."""

    duplicates: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    """The share of packets that comes twice."""

    delay: Duration = 0.001
    """The longest delay; each packet takes a random time up to it."""


class Strike(StrEnum):
    """What becomes of a node that preempts."""

    KILL = "kill"
    FREEZE = "freeze"


Cables = Annotated[CablePart, read_as("node", Names, CablePart)]
Resumed = Annotated[ResumePart, read_as("node", Names, ResumePart)]


class EventPart(Part):
    """Something that happens: `at`, and exactly one of the other keys but `name`, `by` and `refused`."""

    at: Duration
    """When, from the beginning of the time line. Events of one instant happen in the order of the file."""

    name: Name | None = None
    """A name, so that expectations can refer to it by `after`."""

    by: Name | None = None
    """For what a person asks for: the node that is asked. Left out: the first one whose holdfastd can serve it."""

    refused: str | None = None
    """For what a person asks for: it must be refused, with this text in the answer. Otherwise it must be done."""

    power_off: Names | None = None
    """The plug of nodes is pulled."""

    power_on: Names | None = None
    """Nodes get power again, and start."""

    network_off: Cables | None = None
    """Cables of nodes are pulled; their machines see that the carrier is gone."""

    network_on: Cables | None = None
    """Cables are put back."""

    cut: CutPart | None = None
    """What goes between two groups of nodes is lost; nobody sees a carrier go."""

    heal: CutPart | None = None
    """A cut ends; the cut is named by the same nodes and networks."""

    freeze: Names | None = None
    """Nothing executes on nodes any more, guests included; watchdogs count on."""

    thaw: Names | None = None
    """Frozen nodes go on where they were."""

    shutdown: Names | None = None
    """Nodes are shut down in an orderly way: holdfastd, then the guests, then the power."""

    reboot: Names | None = None
    """As `shutdown`, and the node starts again."""

    daemon_stop: Names | None = None
    """holdfastd ends in an orderly way, as for an upgrade; guests run on."""

    daemon_start: Names | None = None
    """holdfastd starts."""

    daemon_restart: Names | None = None
    """holdfastd ends in an orderly way and starts again."""

    daemon_kill: Names | None = None
    """holdfastd is killed."""

    guard_kill: Names | None = None
    """holdfast-guard is killed, and does not come back before `guard-start` or a start of the machine."""

    guard_start: Names | None = None
    """holdfast-guard starts."""

    libvirt_hangs: Names | None = None
    """libvirtd answers nothing and does what it was asked when it works again."""

    libvirt_works: Names | None = None
    """libvirtd works again."""

    store_down: Names | None = None
    """The cluster database cannot be reached from nodes; from `all`, it is down."""

    store_up: Names | None = None
    """The cluster database can be reached from nodes again."""

    store_leader_change: Literal[True] | None = None
    """The cluster database loses its leader and elects one."""

    member_stop: Names | None = None
    """Members of the cluster database on nodes end, and cannot start."""

    member_start: Names | None = None
    """They can start again, and do."""

    member_loses_data: Names | None = None
    """The data of members of the cluster database is gone from their nodes' disks."""

    join: Names | None = None
    """Nodes that were taken out of the cluster join it again."""

    storage_off: Names | None = None
    """No disk can be reached from nodes: guests there wait in the kernel, and no kill ends them."""

    storage_on: Names | None = None
    """The disks can be reached from nodes again."""

    target_down: Literal[True] | None = None
    """The target of the shared disks loses its power; after a restart it knows who may write, or does not."""

    target_up: Literal[True] | None = None
    """It is back, and nodes log in again."""

    target_forgets: Literal[True] | None = None
    """It restarts at once, and has forgotten who may write."""

    target_hangs: Literal[True] | None = None
    """It answers nobody, and what is sent to it meanwhile is lost."""

    target_answers: Literal[True] | None = None
    """It answers again."""

    preempt_race: Strike | None = None
    """The next node that preempts a registration is struck as it does: `kill` its holdfastd, or `freeze` it."""

    weather: WeatherPart | None = None
    """Packets are lost, doubled or late on all networks."""

    clock_jump: JumpPart | None = None
    """Wall clocks of nodes jump."""

    guest_crash: Names | None = None
    """The guests of roles crash, wherever they run."""

    start_fails: StartFailsPart | None = None
    """The next starts of guests fail."""

    fence_fails: Names | None = None
    """The fence devices of nodes refuse orders, and report the truth."""

    fence_hangs: Names | None = None
    """The fence devices of nodes never answer."""

    fence_unclear: Names | None = None
    """The fence devices of nodes answer with errors only."""

    fence_works: Names | None = None
    """The fence devices of nodes work again."""

    drain: Names | None = None
    """A person drains nodes: their roles are moved away."""

    resume: Resumed | None = None
    """A person resumes nodes."""

    pause: Names | None = None
    """A person pauses nodes: they take no further roles."""

    evict: Names | None = None
    """A person takes nodes out of the cluster, from another node."""

    leave: Names | None = None
    """A person has nodes leave the cluster in an orderly way."""

    confirm_down: Names | None = None
    """A person confirms that lost nodes are down."""

    role_add: RolePart | None = None
    """A person adds a role."""

    role_remove: Names | None = None
    """A person removes roles, stopping them first."""

    role_start: Names | None = None
    """A person wants roles online, which also forgives their failures."""

    role_stop: Names | None = None
    """A person wants roles offline."""

    role_move: MovePart | None = None
    """A person moves a role."""

    role_set: RoleSetPart | None = None
    """A person changes a role."""

    set: dict[str, Any] | None = None
    """A person changes settings of the cluster, by the names that `holdfast cluster set` takes."""

    cluster_freeze: Annotated[str, Field(min_length=1)] | None = None
    """A person freezes the cluster, for this reason: it does nothing by itself any more."""

    cluster_unfreeze: Literal[True] | None = None
    """A person lets the cluster act again."""

    @property
    def kind(self) -> str:
        """The key that says what happens, as an attribute."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def what(self) -> Any:
        """The value of that key."""
        return getattr(self, self.kind)

    def __str__(self) -> str:
        key = self.kind.replace("_", "-")
        value = self.what
        if isinstance(value, tuple):
            words = " ".join(value)
        elif isinstance(value, Part):
            words = _flat(value.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        else:
            words = "" if value is True else _flat(value)
        return f"{key} {words}".rstrip()


OF_VOTES: Final = ("member_stop", "member_start", "member_loses_data", "join", "evict", "leave")
"""The kinds that make sense only where votes move."""
ABOUT: Final = ("at", "name", "by", "refused")
KINDS: Final = tuple(name for name in EventPart.model_fields if name not in ABOUT)
REQUESTED: Final = KINDS[KINDS.index("drain") :]
"""The kinds that a person asks for; the others happen to things."""


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_flat(item)}" for key, item in value.items())
    return " ".join(map(_flat, value)) if isinstance(value, list) else str(value)
