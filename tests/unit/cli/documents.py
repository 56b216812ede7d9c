"""Hand-made documents: one small cluster in the situations that a person has to understand."""

from dataclasses import replace
from datetime import UTC, datetime

from holdfast.model.events import Event, EventCode
from holdfast.model.ids import Epoch, NodeName
from holdfast.model.nodes import Condition
from holdfast.model.reasons import ReasonCode, because
from holdfast.model.status import (
    ClusterStatus,
    EventLine,
    NodeState,
    NodeStatus,
    QuorumStatus,
    RoleExplanation,
    RoleState,
    RoleStatus,
    VoterStatus,
)

GIB = 1 << 30
NOON_MS = int(datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp() * 1000)


def node(number: int, **changes: object) -> NodeStatus:
    """A node that is up."""
    name = f"node{number}"
    usual = NodeStatus(
        name=name,
        state=NodeState.UP,
        is_coordinator=number == 1,
        is_voter=True,
        is_paused=False,
        incarnation=f"6f0c1d9e-0000-4000-8000-00000000000{number}",
        version="0.1.0",
        up_since_ms=NOON_MS,
        addresses={"cluster-a": f"10.0.0.{number}", "cluster-b": f"10.0.1.{number}"},
        heard_on=("cluster-a", "cluster-b"),
        memory_bytes=4 * GIB,
        memory_free_bytes=3 * GIB,
        vcpus=8,
        roles=(),
        fence_agent="fence_ipmilan",
        watchdog=None,
        reasons=(),
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def role(name: str, **changes: object) -> RoleStatus:
    """A role that is online on node1."""
    usual = RoleStatus(
        name=name,
        state=RoleState.ONLINE,
        phase="online",
        wanted="online",
        owner="node1",
        last_owner=None,
        epoch=1,
        since_ms=NOON_MS,
        priority="medium",
        memory_bytes=GIB // 2,
        vcpus=1,
        preferred_owners=(),
        possible_owners=(),
        restarts=0,
        uuid="0d9a3c5e-0000-4000-8000-000000000001",
        disk_paths=(f"/srv/vms/{name}.qcow2",),
        reasons=("node1 has the most free memory of 3 candidates",),
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def cluster(**changes: object) -> ClusterStatus:
    """Three nodes, all well."""
    usual = ClusterStatus(
        cluster="demo",
        cluster_id="c1",
        answered_by="node1",
        version="0.1.0",
        revision=812,
        database_answers=True,
        voters=3,
        voters_up=3,
        coordinator="node1",
        nodes=(node(1, roles=("db", "web1")), node(2), node(3)),
        roles=(role("db", priority="high"), role("web1")),
        conditions=(),
        settings={"vcpu_overcommit": 4},
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


NO_PROOF = "there is no proof yet that node3 can do no harm"
FENCE_FAILED = (
    "fencing node3 did not succeed: fence_ipmilan: [/dev/ipmi0] no answer in 9 s; if it is surely off, run: "
    "holdfast node confirm-down node3"
)
SILENT = "node3 has been silent on every network for 5210 ms (limit 800 ms)"

WELL = cluster()
EMPTY = cluster(nodes=(node(1), node(2), node(3)), roles=())
LOST = cluster(
    nodes=(
        node(1, roles=("db",)),
        node(2),
        node(
            3,
            state=NodeState.LOST,
            heard_on=(),
            roles=("web1",),
            reasons=(SILENT,),
            fault_domains=("power:A", "rack:3"),
        ),
    ),
    roles=(
        role("db", priority="high"),
        role("web1", state=RoleState.BLOCKED, owner="node3", reasons=(NO_PROOF, FENCE_FAILED)),
        role("web2", state=RoleState.STARTING, phase="starting", owner="node2"),
        role("old", state=RoleState.OFFLINE, phase="vacant", wanted="offline", owner=None, priority="no-autostart"),
    ),
)
SUSPECT = cluster(
    nodes=(node(1), node(2), node(3, state=NodeState.SUSPECT, heard_on=(), roles=("web1",))),
    roles=(role("db"), role("web1", state=RoleState.UNKNOWN, owner="node3", reasons=("its owner is silent",))),
)
NO_QUORUM = cluster(
    database_answers=False,
    voters_up=1,
    coordinator=None,
    nodes=(
        node(1, is_coordinator=False, roles=("db", "web1")),
        node(2, state=NodeState.SUSPECT, heard_on=()),
        node(3, state=NodeState.SUSPECT, heard_on=()),
    ),
)
JOINING = cluster(
    nodes=(
        *cluster().nodes,
        node(
            4,
            state=NodeState.JOINING,
            is_voter=False,
            incarnation=None,
            version=None,
            up_since_ms=None,
            heard_on=(),
            memory_bytes=None,
            memory_free_bytes=None,
            vcpus=None,
            fence_agent=None,
        ),
    ),
)
WARNED = cluster(
    nodes=(
        node(1, roles=("db", "web1"), is_paused=True),
        node(2, state=NodeState.BADLY_CONNECTED, heard_on=("cluster-a",), fence_agent=None, watchdog="/dev/watchdog"),
        node(
            3, state=NodeState.FENCED, heard_on=(), fence_agent=None, reasons=("the fence device reports node3 as off",)
        ),
    ),
    conditions=(
        Condition(code="badly-connected", subject="node2", text="node1 does not hear node2 on every network"),
        Condition(
            code="clock-off", subject="node2", text="the clock of node2 is +3600 s off; [check] its \x1b[31mtime"
        ),
    ),
)
LONG = cluster(
    nodes=(node(1, name="rack7-unit12-production-frankfurt"), node(2), node(3)),
    roles=(role("accounting-database-replica-number-two", owner="rack7-unit12-production-frankfurt"),),
)
STATUSES = {
    "well": WELL,
    "empty": EMPTY,
    "lost": LOST,
    "suspect": SUSPECT,
    "no-quorum": NO_QUORUM,
    "joining": JOINING,
    "warned": WARNED,
    "long": LONG,
}

QUORUM = QuorumStatus(
    voters=(
        VoterStatus(name="attic", kind="witness", state=NodeState.UP, site=None, votes=True, member="running"),
        VoterStatus(name="node1", kind="voter", state=NodeState.UP, site="east", votes=True, member="running"),
        VoterStatus(name="node2", kind="voter", state=NodeState.UP, site=None, votes=True, member="running"),
    ),
    needed=2,
    spare=1,
    database_answers=True,
    may_fail="Any one of attic, node1, node2 may fail now, and any number of nodes without a vote.",
    fault_domains={"power:A": ("attic", "node1"), "rack:3": ("node1", "node2")},
)

EXPLANATIONS = {
    "online": RoleExplanation(
        name="web1",
        state=RoleState.ONLINE,
        owner="node1",
        here=("node1 is preferred owner number 1",),
        not_running=(),
        elsewhere={"node2": (), "node3": ("node3 is paused",)},
    ),
    "blocked": RoleExplanation(
        name="web1",
        state=RoleState.BLOCKED,
        owner="node3",
        here=(),
        not_running=(NO_PROOF, FENCE_FAILED),
        elsewhere={
            "node1": (),
            "node2": (
                "node2 has 1000 bytes of memory free, 2000 needed",
                "it failed on node2 before",
            ),
        },
    ),
    "offline": RoleExplanation(
        name="old",
        state=RoleState.OFFLINE,
        owner=None,
        here=(),
        not_running=("old is wanted offline",),
        elsewhere={},
    ),
}


def event(code: EventCode, subject: str, at_ms: int, text: str) -> EventLine:
    """An event seen by node1."""
    seen = Event(
        code=code,
        subject=subject,
        at_ms=at_ms,
        monotonic_ms=at_ms - NOON_MS,
        node=NodeName("node1"),
        epoch=Epoch(2),
        target=None,
        reasons=(because(ReasonCode.POWER_OFF, "node3"),),
    )
    return EventLine(event=seen, text=text)


EVENTS = (
    event(EventCode.NODE_LOST, "node3", NOON_MS + 5, f"node3 is lost: {SILENT}"),
    event(EventCode.NODE_FENCED, "node3", NOON_MS + 61_250, "node3 is fenced:\x1b[2J\noff"),
    event(EventCode.ROLE_ONLINE, "web1", NOON_MS + 62_500, "web1 is online on node1"),
)
