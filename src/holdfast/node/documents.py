"""The documents that the local socket answers with, made from the snapshot and from what this node observes.

Rule of the file: pure. A thing that was not observed is None, unknown or absent, never guessed. Source: SAFE-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast import __version__
from holdfast.decide.coordination import owners_by_node
from holdfast.decide.detection import Assessment, Standing
from holdfast.decide.explain import Standstill, explain_role, standstill
from holdfast.decide.fault_domains import majority_takers, shared_fault_domains
from holdfast.decide.fencing import is_proven_enough
from holdfast.decide.freedom import needs_decision
from holdfast.decide.layout import Layout
from holdfast.decide.orders import left_on, preview_drain
from holdfast.decide.quorum import spare_voters, what_may_fail
from holdfast.decide.shared_machines import shared_machines
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import Condition
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Failback, FailbackPolicy, Label, MemoryKind, MoveMethod, Ownership, Phase, Wanted
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import (
    ClusterStatus,
    NodeState,
    NodeStatus,
    QuorumStatus,
    RoleExplanation,
    RoleState,
    RoleStatus,
    VoterStatus,
)
from holdfast.model.transfers import Transfer
from holdfast.model.versions import can_run_together
from holdfast.node.certificate_conditions import expiring
from holdfast.node.settings_words import flat_settings
from holdfast.node.timing_conditions import changing


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the answering node knows besides the snapshot.

    standing   empty while it has not judged anybody.
    obstacle   why the answering node itself is not up; None when it is.
    """

    me: NodeName
    standing: Mapping[NodeName, Assessment]
    heard_on: Mapping[NodeName, tuple[str, ...]]
    database_answers: bool
    now_ms: int
    obstacle: str | None = None


def cluster_status(snapshot: Snapshot, view: View) -> ClusterStatus:
    """The whole cluster."""
    cluster = snapshot.cluster
    voters = snapshot.voters()
    coordinator = snapshot.coordinator
    layout = Layout(snapshot, view.now_ms)
    owned = owners_by_node(snapshot)
    return ClusterStatus(
        cluster=cluster.value.name if cluster is not None else "",
        cluster_id=cluster.value.id if cluster is not None else "",
        answered_by=view.me,
        version=__version__,
        revision=snapshot.revision,
        database_answers=view.database_answers,
        voters=len(voters),
        voters_up=voters_up(snapshot, view),
        coordinator=coordinator.value.node if coordinator is not None else None,
        nodes=tuple(_node_status(name, snapshot, view, layout, owned) for name in sorted(snapshot.nodes)),
        roles=tuple(_role_status(name, snapshot, view, layout) for name in sorted(snapshot.specs)),
        conditions=conditions(snapshot, view),
        settings=flat_settings(snapshot.settings),
        is_frozen=snapshot.is_frozen,
    )


_REACHABLE = (NodeState.UP, NodeState.BADLY_CONNECTED)


def quorum_status(snapshot: Snapshot, view: View) -> QuorumStatus:
    """Who votes, and what could fail now without loss of quorum."""
    voters = sorted(snapshot.voters())
    up = [name for name in voters if node_state(name, snapshot, view) in _REACHABLE]
    seated = [name for name, node in sorted(snapshot.nodes.items()) if node.value.seat is not None]
    return QuorumStatus(
        voters=tuple(_voter_status(name, snapshot, view) for name in sorted({*voters, *seated})),
        needed=len(voters) // 2 + 1,
        spare=spare_voters(voters, up),
        database_answers=view.database_answers,
        may_fail=what_may_fail(voters, up),
        fault_domains={str(domain): gone for domain, gone in majority_takers(snapshot, up).items()},
    )


def _voter_status(name: NodeName, snapshot: Snapshot, view: View) -> VoterStatus:
    node, report = snapshot.nodes[name].value, snapshot.reports.get(name)
    seat = report.value.seat if report is not None else None
    return VoterStatus(
        name=name,
        kind="witness" if node.is_witness else "voter",
        state=node_state(name, snapshot, view),
        site=node.site,
        votes=node.is_voter,
        member=seat.state if seat is not None else None,
    )


def node_state(name: NodeName, snapshot: Snapshot, view: View) -> NodeState:
    """One node in one word, as the answering node sees it."""
    session = snapshot.sessions.get(name)
    if session is None:
        return _absent_state(name, snapshot)
    if name == view.me:
        return NodeState.UP
    judged = view.standing.get(name)
    if judged is not None and judged.standing in (Standing.SUSPECT, Standing.LOST):
        return NodeState.SUSPECT
    badly = judged is not None and judged.standing is Standing.BADLY_CONNECTED
    return NodeState.BADLY_CONNECTED if badly else NodeState.UP


def _absent_state(name: NodeName, snapshot: Snapshot) -> NodeState:
    verdict = snapshot.verdicts.get(name)
    if snapshot.nodes[name].value.is_witness:
        return NodeState.DOWN
    if verdict is not None:
        proven = is_proven_enough(verdict.value.incarnation, snapshot)
        return NodeState.FENCED if proven else NodeState.LOST
    owns = any(o.value.owner == name for o in snapshot.ownerships.values())
    return NodeState.DOWN if owns or snapshot.nodes[name].value.is_voter else NodeState.JOINING


def node_status(name: NodeName, snapshot: Snapshot, view: View) -> NodeStatus:
    """One node in full."""
    return _node_status(name, snapshot, view, Layout(snapshot, view.now_ms), owners_by_node(snapshot))


def _node_status(
    name: NodeName, snapshot: Snapshot, view: View, layout: Layout, owned: Mapping[NodeName, tuple[RoleName, ...]]
) -> NodeStatus:
    spec = snapshot.nodes[name].value
    session = snapshot.sessions.get(name)
    report = snapshot.reports.get(name)
    free = layout.free.get(name)
    capacity = spec.capacity or (report.value.capacity if report is not None else None)
    coordinator = snapshot.coordinator
    watchdog_ms = session.value.watchdog_timeout_ms if session is not None else None
    return NodeStatus(
        name=name,
        state=node_state(name, snapshot, view),
        is_coordinator=coordinator is not None and coordinator.value.node == name,
        is_voter=spec.is_voter,
        is_paused=spec.is_paused,
        incarnation=session.value.incarnation if session is not None else None,
        version=session.value.version if session is not None else None,
        up_since_ms=session.value.started_at_ms if session is not None else None,
        addresses={str(network): address for network, address in spec.addresses.items()},
        heard_on=view.heard_on.get(name, ()),
        memory_bytes=capacity.memory_bytes if capacity is not None else None,
        memory_free_bytes=free.memory_bytes if free is not None else None,
        vcpus=capacity.vcpus if capacity is not None else None,
        roles=tuple(owned.get(name, ())),
        fence_agent=spec.fence.agent if spec.fence is not None else None,
        watchdog=f"{watchdog_ms} ms" if watchdog_ms is not None else None,
        reasons=words(_node_reasons(name, snapshot, view)),
        site=spec.site,
        is_draining=spec.is_draining,
        is_witness=spec.is_witness,
        fault_domains=spec.fault_domains,
    )


def _node_reasons(name: NodeName, snapshot: Snapshot, view: View) -> tuple[Reason, ...]:
    if name in snapshot.sessions:
        judged = view.standing.get(name)
        return judged.reasons if judged is not None else ()
    verdict = snapshot.verdicts.get(name)
    if verdict is None:
        return ()
    proof = snapshot.proofs.get(verdict.value.incarnation)
    return (*verdict.value.reasons, *(proof.value.reasons if proof is not None else fencing(snapshot).get(name, ())))


def role_status(name: RoleName, snapshot: Snapshot, view: View) -> RoleStatus:
    """One role in full."""
    return _role_status(name, snapshot, view, Layout(snapshot, view.now_ms))


def _role_status(name: RoleName, snapshot: Snapshot, view: View, layout: Layout) -> RoleStatus:
    spec = snapshot.specs[name].value
    ownership = _ownership(name, snapshot)
    still = standstill(snapshot, name, fencing(snapshot), layout)
    state = role_state(name, snapshot, view, still)
    return RoleStatus(
        name=name,
        state=state,
        phase=ownership.phase,
        wanted=spec.wanted,
        owner=ownership.owner,
        last_owner=ownership.last_owner,
        epoch=ownership.epoch,
        since_ms=ownership.since_ms,
        priority=spec.priority.name.lower().replace("_", "-"),
        memory_bytes=spec.memory_bytes,
        vcpus=spec.vcpus,
        preferred_owners=spec.preferred_owners,
        possible_owners=spec.possible_owners,
        restarts=len(ownership.restarts),
        uuid=spec.uuid,
        disk_paths=spec.disk_paths,
        reasons=words(still.reasons or unseen(name, snapshot, view) or ownership.reasons),
        target=ownership.target,
        preferred_site=spec.preferred_site,
        affinity=tuple(map(_label, spec.affinity)),
        anti_affinity=tuple(map(_label, spec.anti_affinity)),
        failback=_failback(spec.failback),
        disks=spec.disks,
        move_method=spec.move_method,
        on_storage_loss=spec.on_storage_loss,
        method=(ownership.method or MoveMethod.RESTART) if ownership.target is not None else None,
        transfer=_transfer(name, ownership, snapshot),
        has_saved_memory=ownership.memory is not None and ownership.memory.kind is MemoryKind.SAVED,
    )


def _transfer(name: RoleName, ownership: Ownership, snapshot: Snapshot) -> Transfer | None:
    """What its owner tells of its memory on the way; what was told of another phase counts no more."""
    report = snapshot.reports.get(ownership.owner) if ownership.owner is not None else None
    if report is None or ownership.phase not in (Phase.SAVING, Phase.MIGRATING):
        return None
    return report.value.transfers.get(name)


def _label(label: Label) -> str:
    return f"{label.name}:hard" if label.is_hard else label.name


def _failback(failback: Failback) -> str:
    if failback.policy is FailbackPolicy.WINDOW:
        return f"{failback.from_hour}-{failback.until_hour}"
    return failback.policy


def voters_up(snapshot: Snapshot, view: View) -> int:
    """How many of those who vote the answering node knows to be up."""
    return sum(1 for voter in snapshot.voters() if node_state(voter, snapshot, view) in _REACHABLE)


def role_state(name: RoleName, snapshot: Snapshot, view: View, still: Standstill | None = None) -> RoleState:
    """One role in one word. A phase counts only while its owner is up; of a silent owner nothing is known.

    still   why it does not run, from who asked that already; None: asked here.
    """
    if still is None:
        still = standstill(snapshot, name, {}, Layout(snapshot, view.now_ms))
    spec = snapshot.specs[name].value
    ownership = _ownership(name, snapshot)
    if ownership.owner is None and (spec.wanted is Wanted.OFFLINE or not needs_decision(spec, ownership, snapshot)):
        return RoleState.OFFLINE
    if needs_decision(spec, ownership, snapshot):
        return RoleState.BLOCKED if still.is_blocked else RoleState.STARTING
    if ownership.owner is None or node_state(ownership.owner, snapshot, view) is NodeState.SUSPECT:
        return RoleState.UNKNOWN
    if ownership.phase is Phase.ONLINE and unseen(name, snapshot, view):
        return RoleState.UNKNOWN
    return {
        Phase.ASSIGNED: RoleState.STARTING,
        Phase.STARTING: RoleState.STARTING,
        Phase.ONLINE: RoleState.ONLINE,
        Phase.STOPPING: RoleState.STOPPING,
        Phase.SAVING: RoleState.SAVING,
        Phase.MIGRATING: RoleState.MIGRATING,
    }[ownership.phase]


def unseen(name: RoleName, snapshot: Snapshot, view: View) -> tuple[Reason, ...]:
    """Why it is not known whether a role runs: its owner is not ready and does not report it, or had to end it alone.

    Source: SAFE-5, docs/quorum.md.
    """
    owner = _ownership(name, snapshot).owner
    voters, up = len(snapshot.voters()), voters_up(snapshot, view)
    if owner is not None and not view.database_answers and 2 * up < voters:
        return (because(ReasonCode.VOTERS_UNHEARD, owner, up=up, voters=voters),)
    report = snapshot.reports.get(owner) if owner is not None else None
    if owner is None or report is None or report.value.not_ready is None:
        return ()
    if snapshot.specs[name].value.uuid in report.value.guests:
        return ()
    return (because(ReasonCode.NODE_NOT_READY, owner, detail=report.value.not_ready),)


def explanation(name: RoleName, snapshot: Snapshot, view: View) -> RoleExplanation:
    """Why a role is where it is."""
    found = explain_role(snapshot, name, view.now_ms, fencing(snapshot))
    return RoleExplanation(
        name=name,
        state=role_state(name, snapshot, view),
        owner=found.owner,
        here=words(found.here),
        not_running=words(found.not_running),
        elsewhere={str(node): words(reasons) for node, reasons in found.elsewhere.items()},
    )


def conditions(snapshot: Snapshot, view: View) -> tuple[Condition, ...]:
    """All standing warnings: those that nodes report, and those that follow from the snapshot."""
    found = {condition for report in snapshot.reports.values() for condition in report.value.conditions}
    for name, report in snapshot.reports.items():
        if report.value.not_ready is not None:
            found.add(Condition(code="node-not-ready", subject=name, text=f"{name}: {report.value.not_ready}"))
    for name, node in snapshot.nodes.items():
        session = snapshot.sessions.get(name)
        unguarded = session is not None and node.value.fence is None and session.value.watchdog_timeout_ms is None
        if unguarded and not node.value.is_witness:
            text = f"{name} has neither a fence device nor a watchdog: if it dies, its roles wait for a person"
            text += ", but for those on shared disks only" if snapshot.disks else ""
            found.add(Condition(code="cannot-be-fenced", subject=name, text=text))
        if session is not None and session.value.version != __version__:
            text = f"{name} runs Holdfast {session.value.version}, {view.me} runs {__version__}"
            if not can_run_together(session.value.version, __version__):
                text += "; they are more than one release apart, which is not supported: bring them together now"
            found.add(Condition(code="version-skew", subject=name, text=text))
    found |= {*_ordered_conditions(snapshot, view), *shared_machines(snapshot), *expiring(snapshot, view.now_ms)}
    found |= {*changing(snapshot), *shared_fault_domains(snapshot)}
    if view.me not in snapshot.sessions:
        text = f"{view.me} is not up: {view.obstacle or 'its session is being registered'}"
        found.add(Condition(code="node-not-up", subject=view.me, text=text))
    if not view.database_answers:
        where = "guests run on where at least half of the voters hear their node"
        text = f"no majority of voters answers: decisions are frozen; {where}"
        found.add(Condition(code="no-quorum", subject=view.me, text=text))
    return tuple(sorted(found, key=lambda condition: (condition.code, condition.subject, condition.text)))


def _ordered_conditions(snapshot: Snapshot, view: View) -> Iterator[Condition]:
    """What stands because a person ordered it."""
    cluster = snapshot.cluster
    if cluster is not None and (freeze := cluster.value.frozen) is not None:
        why = f" ({freeze.reason})" if freeze.reason else ""
        text = f"{freeze.by} froze the cluster{why}: it does nothing by itself until holdfast cluster unfreeze"
        yield Condition(code="cluster-frozen", subject=cluster.value.name, text=text)
    for name, node in sorted(snapshot.nodes.items()):
        if node.value.is_draining:
            drain = preview_drain(snapshot, name, view.now_ms)
            left = len(left_on(snapshot, name, drain)) + len(drain.staying)
            text = f"{name} is drained: nothing is left on it" if not left else f"{name} is being drained: {left} left"
            stays = "".join(f"; {role} stays: {'; '.join(words(why))}" for role, why in sorted(drain.staying.items()))
            yield Condition(code="node-draining", subject=name, text=text + stays)


def fencing(snapshot: Snapshot) -> dict[NodeName, tuple[Reason, ...]]:
    """How far fencing has come per lost node, as the coordinator reports it."""
    coordinator = snapshot.coordinator
    report = snapshot.reports.get(coordinator.value.node) if coordinator is not None else None
    return dict(report.value.fencing) if report is not None else {}


def words(reasons: tuple[Reason, ...]) -> tuple[str, ...]:
    """The sentences of reasons, each once."""
    return tuple(dict.fromkeys(str(reason) for reason in reasons))


def _ownership(name: RoleName, snapshot: Snapshot) -> Ownership:
    versioned = snapshot.ownerships.get(name)
    return versioned.value if versioned is not None else Ownership(role=name)
