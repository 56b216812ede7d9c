"""Everything that can be asked of holdfastd, as values: the method, its parameters, and the type of its answer.

Rule of the file: one function per method of the local API and no I/O, so that the blocking and the async client cannot
differ in what they ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from holdfast.client.answers import (
    ConfirmedDown,
    DomainXml,
    EvictedNode,
    FenceAnswer,
    ForgottenCluster,
    FreezeState,
    IssuedToken,
    NodeAddresses,
    Presence,
    RemovedRole,
    RotatedKey,
)
from holdfast.model.backups import BackupInfo, RestoredCluster
from holdfast.model.roles import Wanted
from holdfast.model.setting_pages import SettingsChange, SettingsPage
from holdfast.model.status import (
    BalanceReport,
    CertificateStatus,
    ClusterStatus,
    DrainReport,
    EventLine,
    NodeStatus,
    PastMove,
    QuorumStatus,
    RoleExplanation,
    RoleStatus,
)

A = TypeVar("A")
Params = dict[str, object]

QUESTION_S: Final = 15.0
CHANGE_S: Final = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[A]):
    """One request that ends in one answer, perhaps after some `Progress`.

    changes     it changes something: when its answer is missing, the outcome is unknown.
    silence_s   so long without a line from the daemon is taken as no answer; None: a person decides how long to wait.
    """

    method: str
    answer: type[A]
    params: Params = field(default_factory=dict)
    changes: bool = False
    silence_s: float | None = QUESTION_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Generic[A]):
    """One request that is answered by items without end."""

    method: str
    item: type[A]
    params: Params = field(default_factory=dict)


def change(
    method: str, answer: type[A], params: Mapping[str, object], silence_s: float | None = CHANGE_S
) -> Request[A]:
    """A request that changes something; parameters that are None are left to the daemon's defaults."""
    given = {name: value for name, value in params.items() if value is not None}
    return Request(method=method, answer=answer, params=given, changes=True, silence_s=silence_s)


def ping() -> Request[Presence]:
    """Ask who answers."""
    return Request(method="ping", answer=Presence)


def create_cluster(
    *,
    cluster: str,
    node: str,
    addresses: Mapping[str, str],
    shared_directories: tuple[str, ...] = (),
    ports: Mapping[str, int] | None = None,
    settings: Mapping[str, object] | None = None,
) -> Request[Presence]:
    """Found a cluster on this machine. `addresses`: per network the IP address of this node."""
    return change(
        "cluster.create",
        Presence,
        {
            "cluster": cluster,
            "node": node,
            "addresses": dict(addresses),
            "shared_directories": list(shared_directories),
            "ports": ports,
            "settings": settings,
        },
    )


def set_cluster(name: str, value: object) -> Request[SettingsChange]:
    """Change one setting of the cluster, by its dotted name."""
    return change_settings({name: value})


def change_settings(changes: Mapping[str, object], *, dry_run: bool = False) -> Request[SettingsChange]:
    """Change several settings of the cluster by their dotted names: all or none. A dry run only checks and shows."""
    return change("cluster.set", SettingsChange, {"changes": dict(changes), "dry_run": dry_run})


def show_settings() -> Request[SettingsPage]:
    """Ask for all settings, and for what the times add up to."""
    return Request(method="cluster.show", answer=SettingsPage)


def create_token(*, ttl_s: int | None = None) -> Request[IssuedToken]:
    """Issue a token that lets one node join."""
    return change("token.create", IssuedToken, {"ttl_s": ttl_s})


def join_node(
    *, token: str, node: str, addresses: Mapping[str, str], ports: Mapping[str, int] | None = None
) -> Request[Presence]:
    """Join this machine to the cluster that issued the token."""
    return change("node.join", Presence, {"token": token, "node": node, "addresses": dict(addresses), "ports": ports})


def set_node(node: str, changes: Mapping[str, object]) -> Request[NodeStatus]:
    """Change a node; what is absent stays.

    Keys: `fence` ({"agent", "options"}, None removes it), `memory_bytes`, `vcpus`, `paused`, `site` (None removes it),
    `fault_domains` (per KIND:NAME whether the node depends on it).
    """
    params = {"node": node, **changes}
    return Request(method="node.set", answer=NodeStatus, params=params, changes=True, silence_s=CHANGE_S)


def set_addresses(node: str, addresses: Mapping[str, str | None]) -> Request[NodeAddresses]:
    """Change the addresses of the node that is asked: per network an IP address, or None to take it away."""
    return change("node.addresses", NodeAddresses, {"node": node, "addresses": dict(addresses)})


def restart_member(node: str) -> Request[NodeAddresses]:
    """Have the member of the database on the node that is asked start again, to listen at the node's addresses."""
    return change("quorum.restart", NodeAddresses, {"node": node})


def fence_test(node: str) -> Request[FenceAnswer]:
    """Ask a node's fence device for the power state; switches nothing."""
    return Request(method="node.fence-test", answer=FenceAnswer, params={"node": node}, silence_s=CHANGE_S)


def confirm_down(node: str, *, person: str, reason: str) -> Request[ConfirmedDown]:
    """Record a person's word that a node is down, as a proof. Source: DESIGN 4, proofs."""
    return change("node.confirm-down", ConfirmedDown, {"node": node, "person": person, "reason": reason})


def add_vm(domain_xml: str, *, wanted: Wanted = Wanted.ONLINE, **placement: object) -> Request[RoleStatus]:
    """Make a virtual machine a role. `placement`: see `set_role`."""
    params = {"domain_xml": domain_xml, "wanted": wanted.value, **placement}
    return change("vm.add", RoleStatus, params)


def start_vm(role: str, *, wait: bool) -> Request[RoleStatus]:
    """Want a role online; with `wait` the answer comes when it is."""
    return change("vm.start", RoleStatus, {"role": role, "wait": wait}, None if wait else CHANGE_S)


def stop_vm(role: str, *, wait: bool) -> Request[RoleStatus]:
    """Want a role offline; with `wait` the answer comes when it is."""
    return change("vm.stop", RoleStatus, {"role": role, "wait": wait}, None if wait else CHANGE_S)


def set_role(role: str, **placement: object) -> Request[RoleStatus]:
    """Change a role; what is absent or None stays.

    Keys: `priority`, `preferred_owners` and `possible_owners` (names of nodes; none clears them), `preferred_site` (""
    clears it), `affinity` and `anti_affinity` (of {"name", "is_hard"}), `failback` ({"policy", "from_hour",
    "until_hour"}), `restart_limit`, `failover_limit`, `shutdown_timeout_ms`.
    """
    return change("role.set", RoleStatus, {"role": role, **placement})


def move_role(
    role: str, *, to: str | None, wait: bool, method: str | None = None, timeout_s: int | None = None
) -> Request[RoleStatus]:
    """Move a role to a node, or to the best other one; with `wait` the answer comes when it is online there.

    method      live, quick, restart or auto; None: as it is set for the role.
    timeout_s   a move that is not over by then is taken back.
    """
    params = {"role": role, "to": to, "wait": wait, "method": method, "timeout_s": timeout_s}
    return change("role.move", RoleStatus, params, None if wait else CHANGE_S)


def cancel_move(role: str) -> Request[RoleStatus]:
    """Take a move back: the role stays, or starts again, where it came from."""
    return change("role.cancel", RoleStatus, {"role": role})


def role_history(role: str, *, limit: int) -> Request[tuple[PastMove, ...]]:
    """Ask for the newest planned moves of a role, oldest first."""
    return Request(method="role.history", answer=tuple[PastMove, ...], params={"role": role, "limit": limit})


def discard_saved_state(role: str, *, person: str) -> Request[RoleStatus]:
    """Give up the saved memory of a role, so that it boots afresh. Source: SAFE-7."""
    return change("role.discard-saved-state", RoleStatus, {"role": role, "person": person})


def drain_node(
    node: str, *, dry_run: bool, wait: bool, force: bool = False, method: str | None = None
) -> Request[DrainReport]:
    """Move a node's roles away; a dry run only says what would happen. With `wait` the answer comes when it is over.

    Without `force` it is refused when some of them would find no room.
    """
    params: Params = {"node": node, "dry_run": dry_run, "wait": wait, "force": force}
    if method is not None:
        params["method"] = method
    silence_s = None if wait else CHANGE_S
    return Request(method="node.drain", answer=DrainReport, params=params, changes=not dry_run, silence_s=silence_s)


def resume_node(node: str, *, failback: Literal["policy", "now", "never"]) -> Request[NodeStatus]:
    """Let a node take roles again. `failback`: what becomes of those that its drain moved away."""
    return change("node.resume", NodeStatus, {"node": node, "failback": failback})


def prepare_shutdown() -> Request[DrainReport]:
    """Have the answering node do with its roles what the cluster's policy says for the end of its operating system."""
    return Request(method="node.prepare-shutdown", answer=DrainReport, changes=True, silence_s=None)


def evict_node(node: str) -> Request[EvictedNode]:
    """Take a node out of the cluster for good: one that is drained, or proven down."""
    return change("node.evict", EvictedNode, {"node": node})


def leave_cluster(node: str) -> Request[EvictedNode]:
    """Have a node that is up and empty hand its vote on and leave the cluster; it may be the one that answers."""
    return change("node.leave", EvictedNode, {"node": node})


def forget_cluster(cluster: str) -> Request[ForgottenCluster]:
    """Have the answering machine forget the cluster that took it out, by the cluster's name."""
    return change("node.forget", ForgottenCluster, {"cluster": cluster})


def list_certificates() -> Request[tuple[CertificateStatus, ...]]:
    """Ask what is known of the nodes' certificates."""
    return Request(method="certificate.list", answer=tuple[CertificateStatus, ...])


def renew_certificates(node: str | None) -> Request[tuple[CertificateStatus, ...]]:
    """Have a node, or all, take a new certificate; the answer comes when those that are up have it."""
    params: Params = {} if node is None else {"node": node}
    answer = tuple[CertificateStatus, ...]
    return Request(method="certificate.renew", answer=answer, params=params, changes=True, silence_s=None)


def rotate_key() -> Request[RotatedKey]:
    """Give the heartbeats another secret; the answer comes when the old one is good for nothing any more."""
    return Request(method="cluster.rotate-key", answer=RotatedKey, changes=True, silence_s=None)


def balance_cluster(*, threshold_percent: int | None, dry_run: bool) -> Request[BalanceReport]:
    """Move the fewest guests that bring the loads of each site's nodes within a threshold; the answer comes then."""
    params: Params = {"dry_run": dry_run}
    if threshold_percent is not None:
        params |= {"threshold_percent": threshold_percent}
    return Request(method="cluster.balance", answer=BalanceReport, params=params, changes=not dry_run, silence_s=None)


def freeze_cluster(*, person: str, reason: str) -> Request[FreezeState]:
    """Have the cluster do nothing by itself."""
    return change("cluster.freeze", FreezeState, {"person": person, "reason": reason})


def unfreeze_cluster() -> Request[FreezeState]:
    """Have the cluster act by itself again."""
    return change("cluster.unfreeze", FreezeState, {})


def create_backup(path: str | None) -> Request[BackupInfo]:
    """Take a backup of the cluster database; None: among the others of that node."""
    return change("backup.create", BackupInfo, {"path": path})


def list_backups() -> Request[tuple[BackupInfo, ...]]:
    """The backups that a node keeps, oldest first."""
    return Request(method="backup.list", answer=tuple[BackupInfo, ...])


def restore_backup(
    path: str,
    *,
    person: str,
    down: Sequence[str] = (),
    node: str | None = None,
    addresses: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
) -> Request[RestoredCluster]:
    """Have this machine go on from a backup as the only node of its cluster. `down`: the person says so of these."""
    params = {"path": path, "person": person, "down": list(down), "node": node, "addresses": addresses, "ports": ports}
    return change("backup.restore", RestoredCluster, params)


def look_at_own_copy(node: str, *, person: str) -> Request[BackupInfo]:
    """Save what this node's member of the database has stored as a backup, and say what is in it."""
    return change("quorum.force", BackupInfo, {"node": node, "person": person, "look": True})


def force_quorum(node: str, *, person: str, down: Sequence[str]) -> Request[RestoredCluster]:
    """Have this node go on with its own data as the only one; `down` names every other host."""
    return change("quorum.force", RestoredCluster, {"node": node, "person": person, "down": list(down)})


def remove_vm(role: str, *, force: bool) -> Request[RemovedRole]:
    """Remove a role; `force` stops it first. Its disks stay."""
    return change("vm.remove", RemovedRole, {"role": role, "force": force}, None if force else CHANGE_S)


def vm_xml(role: str) -> Request[DomainXml]:
    """Ask for the libvirt domain of a role."""
    return Request(method="vm.xml", answer=DomainXml, params={"role": role})


def status() -> Request[ClusterStatus]:
    """Ask for the whole cluster as the answering node sees it."""
    return Request(method="status", answer=ClusterStatus)


def show_quorum() -> Request[QuorumStatus]:
    """Ask who votes and what could fail now without loss of quorum."""
    return Request(method="quorum.show", answer=QuorumStatus)


def watch_status() -> Stream[ClusterStatus]:
    """Follow the whole cluster: now, and at every change."""
    return Stream(method="status.watch", item=ClusterStatus)


def explain(role: str) -> Request[RoleExplanation]:
    """Ask why a role is where it is."""
    return Request(method="explain", answer=RoleExplanation, params={"role": role})


def events(*, limit: int) -> Request[tuple[EventLine, ...]]:
    """Ask for the newest events, oldest first."""
    return Request(method="events", answer=tuple[EventLine, ...], params={"limit": limit})


def follow_events(*, limit: int) -> Stream[EventLine]:
    """Follow the events: the newest `limit`, then every new one."""
    return Stream(method="events.follow", item=EventLine, params={"limit": limit})
