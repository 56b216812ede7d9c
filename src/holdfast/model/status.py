"""What a cluster looks like to a person: the documents that the local socket answers with.

Rule of the file: observed facts and their reasons, already put into words where words are all that is needed. Status
never claims what was not observed. Source: SAFE-5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.model.events import Event
from holdfast.model.nodes import Condition
from holdfast.model.transfers import Transfer


class NodeState(StrEnum):
    """A node in one word.

    UP               has a session and is heard.
    BADLY_CONNECTED  has a session and is not heard on every network.
    JOINING          was added and has not come up yet.
    SUSPECT          silent; evidence is being searched.
    LOST             agreed to be gone; nothing is proven yet, its roles wait.
    FENCED           proven unable to do harm.
    DOWN             has no session, and no verdict was needed.
    """

    UP = "up"
    BADLY_CONNECTED = "badly-connected"
    JOINING = "joining"
    SUSPECT = "suspect"
    LOST = "lost"
    FENCED = "fenced"
    DOWN = "down"


class RoleState(StrEnum):
    """A role in one word. BLOCKED: wanted, not online, and it stays so until what its reasons name has happened."""

    ONLINE = "online"
    STARTING = "starting"
    STOPPING = "stopping"
    SAVING = "saving"
    """Its memory is being saved, to go on elsewhere."""
    MIGRATING = "migrating"
    """Its memory is being copied to another node; it runs meanwhile."""
    OFFLINE = "offline"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
    """Its owner is silent; what runs there is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node. `heard_on`: networks on which the answering node hears it. Sizes in bytes, times in wall-clock ms."""

    name: str
    state: NodeState
    is_coordinator: bool
    is_voter: bool
    is_paused: bool
    incarnation: str | None
    version: str | None
    up_since_ms: int | None
    addresses: dict[str, str]
    heard_on: tuple[str, ...]
    memory_bytes: int | None
    memory_free_bytes: int | None
    vcpus: int | None
    roles: tuple[str, ...]
    fence_agent: str | None
    watchdog: str | None
    reasons: tuple[str, ...]
    site: str | None = None
    is_draining: bool = False
    is_witness: bool = False
    fault_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """A node's certificate in use. `until_ms` None: the node has not told yet. `is_awaited`: it is to be replaced."""

    node: str
    serial: str
    until_ms: int | None
    is_awaited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """One role. `phase` is the database's word; `reasons` say why it is here, or why it does not run.

    target                    where a planned move takes it; None: it is on no move.
    affinity, anti_affinity   labels as `holdfast role set` takes them: NAME, or NAME:hard.
    failback                  likewise: never, at-once, or the hours of a window.
    move_method               how it moves when nobody asks for another way.
    on_storage_loss           what becomes of it when its node loses a shared disk: wait or move.
    method                    how it moves now; None: it is on no move.
    transfer                  how far its memory has come, while that is saved or copied.
    has_saved_memory          its next start goes on from saved memory.
    disks, disk_paths         what it writes to: shared disks of the cluster, and files in shared directories.
    """

    name: str
    state: RoleState
    phase: str
    wanted: str
    owner: str | None
    last_owner: str | None
    epoch: int
    since_ms: int
    priority: str
    memory_bytes: int
    vcpus: int
    preferred_owners: tuple[str, ...]
    possible_owners: tuple[str, ...]
    restarts: int
    uuid: str
    disk_paths: tuple[str, ...]
    reasons: tuple[str, ...]
    target: str | None = None
    preferred_site: str | None = None
    affinity: tuple[str, ...] = ()
    anti_affinity: tuple[str, ...] = ()
    failback: str = "never"
    disks: tuple[str, ...] = ()
    move_method: str = "auto"
    on_storage_loss: str = "wait"
    method: str | None = None
    transfer: Transfer | None = None
    has_saved_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """The whole cluster, as the answering node sees it.

    is_frozen          a person ordered that the cluster does nothing by itself.
    database_answers   False: there is no majority of voters in reach; everything below is as of `revision`, and no
                       decision can be made; guests run on where at least half of the voters hear their node.
    """

    cluster: str
    cluster_id: str
    answered_by: str
    version: str
    revision: int
    database_answers: bool
    voters: int
    voters_up: int
    coordinator: str | None
    nodes: tuple[NodeStatus, ...]
    roles: tuple[RoleStatus, ...]
    conditions: tuple[Condition, ...]
    settings: dict[str, object]
    is_frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterStatus:
    """One voter, or a node on its way to a vote. `kind`: voter or witness. `member`: None while that is not known."""

    name: str
    kind: str
    state: NodeState
    site: str | None
    votes: bool
    member: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumStatus:
    """Who votes, and what could fail now.

    spare           so many voters more may fail; negative: so many are missing.
    fault_domains   per one that takes the majority away when it fails, the voters that go with it.
    """

    voters: tuple[VoterStatus, ...]
    needed: int
    spare: int
    database_answers: bool
    may_fail: str
    fault_domains: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleExplanation:
    """Why a role is where it is: `elsewhere` has per node the reasons against it; none means that it could go there."""

    name: str
    state: RoleState
    owner: str | None
    here: tuple[str, ...]
    not_running: tuple[str, ...]
    elsewhere: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """A drain, before or while it happens.

    moves     per role where it goes, as decided now; it is decided again when its turn comes.
    staying   per role why no other node can take it; it runs on.
    methods   per role that moves, how.
    refused   of a dry run: why the drain would not be begun without force; empty when it would.
    """

    node: str
    is_dry_run: bool
    moves: dict[str, str]
    staying: dict[str, tuple[str, ...]]
    refused: str = ""
    methods: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceMove:
    """A role that is moved to balance its nodes."""

    role: str
    source: str
    target: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReport:
    """How the nodes of each site are balanced, before or while it happens. Loads are in percent of a node.

    moves           what moves, in this order; of a dry run, what would.
    before, after   per node that takes part, how full it is; `after`: once the moves are done.
    is_within       whether the threshold is kept then.
    """

    is_dry_run: bool
    threshold_percent: int
    moves: tuple[BalanceMove, ...]
    before: dict[str, float]
    after: dict[str, float]
    is_within: bool


class MoveOutcome(StrEnum):
    """How a move ended.

    ARRIVED     where it was to go.
    ELSEWHERE   on another node: the one that it was to go to could not take it.
    RETURNED    where it began: it was cancelled, or did not succeed.
    UNDER_WAY   not yet.
    """

    ARRIVED = "arrived"
    ELSEWHERE = "elsewhere"
    RETURNED = "returned"
    UNDER_WAY = "under-way"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMove:
    """One planned move of a role, as its events tell. Times in wall-clock ms of the nodes that recorded them.

    source     None: not known any more, older events are gone.
    target     where it was to go.
    owner      where it ended; None while it is under way.
    total_ms   from the order until it was online.
    pause_ms   from the record under which its guest was stopped, suspended or handed over until it was online.
    why        why it was moved.
    trouble    what went wrong on the way.
    """

    role: str
    at_ms: int
    outcome: MoveOutcome
    method: str | None
    source: str | None
    target: str
    owner: str | None
    total_ms: int | None
    pause_ms: int | None
    why: tuple[str, ...]
    trouble: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """An event with its sentence, as shown by `holdfast events`."""

    event: Event
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a request that takes time. `transfer`: how far the memory of the role is that it is about."""

    text: str
    transfer: Transfer | None = None
