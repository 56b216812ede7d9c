"""What a request makes of a record: pure checks and new records, for `requests` to commit.

Rule of the file: every refusal names the thing, the value and the next step, and comes before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from holdfast.decide.fencing import is_proven_dead
from holdfast.hypervisor.domain_xml import GuestDefinition
from holdfast.hypervisor.guest_paths import check_links, check_shared
from holdfast.model.errors import Conflict, InvalidInput, NotFound, Refused
from holdfast.model.ids import FaultDomain, NodeName, RoleName, SiteName
from holdfast.model.nodes import Capacity, NodeSpec, Verdict
from holdfast.model.roles import Phase, Priority, RoleSpec
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.request_params import AddParams, NodeSetParams, RoleChoices


def find_role(snapshot: Snapshot, role: str) -> Versioned[RoleSpec]:
    """Return a role's spec. Raises: NotFound."""
    found = snapshot.specs.get(RoleName(role))
    if found is None:
        raise NotFound(f"there is no role {role!r}", hint="holdfast vm list shows them")
    return found


def find_node(snapshot: Snapshot, name: str) -> Versioned[NodeSpec]:
    """Return a node's spec. Raises: NotFound."""
    found = snapshot.nodes.get(NodeName(name))
    if found is None:
        raise NotFound(f"there is no node {name!r}", hint=f"nodes are: {', '.join(sorted(snapshot.nodes))}")
    return found


def is_owned(snapshot: Snapshot, role: str) -> bool:
    """Whether a node owns the role, so that something of it may run."""
    ownership = snapshot.ownerships.get(RoleName(role))
    return ownership is not None and ownership.value.phase is not Phase.VACANT


def unproven_verdict(snapshot: Snapshot, node: NodeName) -> Versioned[Verdict]:
    """Return the verdict that a person may complete with a proof. Raises: Refused."""
    verdict = snapshot.verdicts.get(node)
    if node in snapshot.sessions or verdict is None:
        state = "has a session: the cluster holds it for up" if node in snapshot.sessions else "was not declared lost"
        raise Refused(
            f"node {node} {state}, so its death is not a person's to confirm",
            hint="watch `holdfast status`: when it is shown as lost, confirm again",
        )
    if is_proven_dead(verdict.value.incarnation, snapshot):
        raise Refused(f"node {node} is proven down already", hint="nothing needs to be done")
    return verdict


def changed_node(spec: NodeSpec, wanted: NodeSetParams, snapshot: Snapshot) -> NodeSpec:
    """Return the node's record with what was set. Raises: InvalidInput."""
    if "fence" in wanted.model_fields_set:
        spec = replace(spec, fence=wanted.fence)
    if wanted.memory_bytes is not None or wanted.vcpus is not None:
        report = snapshot.reports.get(spec.name)
        known = spec.capacity or (report.value.capacity if report is not None else None)
        if known is None and (wanted.memory_bytes is None or wanted.vcpus is None):
            raise InvalidInput(f"node {spec.name} never reported its capacity", hint="give both --memory and --vcpus")
        memory_bytes = wanted.memory_bytes or (known.memory_bytes if known is not None else 0)
        vcpus = wanted.vcpus or (known.vcpus if known is not None else 0)
        spec = replace(spec, capacity=Capacity(memory_bytes=memory_bytes, vcpus=vcpus))
    if "site" in wanted.model_fields_set:
        spec = replace(spec, site=None if wanted.site is None else SiteName(wanted.site))
    spec = replace(spec, fault_domains=_fault_domains(spec, wanted.fault_domains))
    if wanted.paused is None:
        return spec
    return replace(spec, is_paused=wanted.paused, is_draining=spec.is_draining and wanted.paused)


def _fault_domains(spec: NodeSpec, wanted: Mapping[FaultDomain, bool]) -> tuple[FaultDomain, ...]:
    """What the node depends on after a change. Raises: InvalidInput for one to take away that it does not have."""
    for domain in (domain for domain, depends in wanted.items() if not depends):
        if domain not in spec.fault_domains:
            known = ", ".join(spec.fault_domains) or "none"
            raise InvalidInput(f"{domain} is no fault domain of node {spec.name}", hint=f"those that it has: {known}")
    changed = dict.fromkeys(spec.fault_domains, True) | dict(wanted)
    return tuple(sorted(domain for domain, depends in changed.items() if depends))


def new_role(guest: GuestDefinition, wanted: AddParams) -> RoleSpec:
    """Return the spec of a guest that becomes a role."""
    return RoleSpec(
        name=RoleName(guest.name),
        uuid=guest.uuid,
        domain_xml=guest.domain_xml,
        memory_bytes=guest.memory_bytes,
        vcpus=guest.vcpus,
        disk_paths=guest.disk_paths,
        disks=guest.disks,
        wanted=wanted.wanted,
    )


def with_choices(spec: RoleSpec, wanted: RoleChoices, snapshot: Snapshot) -> RoleSpec:
    """The spec with what a person chose; names of nodes are checked."""
    for owners in (wanted.preferred_owners, wanted.possible_owners):
        for owner in owners or ():
            find_node(snapshot, owner)
    changes: dict[str, Any] = wanted.model_dump(
        include={
            "preferred_owners",
            "possible_owners",
            "restart_limit",
            "failover_limit",
            "shutdown_timeout_ms",
            "move_method",
            "on_storage_loss",
        },
        exclude_none=True,
    )
    for name in ("affinity", "anti_affinity", "failback"):
        if (chosen := getattr(wanted, name)) is not None:
            changes[name] = chosen
    if wanted.preferred_site is not None:
        changes["preferred_site"] = wanted.preferred_site or None
    if wanted.priority is not None:
        changes["priority"] = Priority[wanted.priority.upper().replace("-", "_")]
    return replace(spec, **changes)


def check_disks(spec: RoleSpec, snapshot: Snapshot) -> None:
    """Refuse a role that uses a shared disk which is not there, or which another role uses. Source: SAFE-1."""
    for disk in spec.disks:
        if disk not in snapshot.disks:
            known = ", ".join(sorted(snapshot.disks)) or "none yet"
            raise NotFound(
                f"role {spec.name} uses disk {disk!r}, which is not in the cluster",
                hint=f"add it first: holdfast storage add {disk}; disks are: {known}",
            )
        if snapshot.disks[disk].value.is_heartbeat:
            raise Conflict(f"disk {disk} is for the heartbeats of the nodes", hint="give the role another disk")
        for name, other in sorted(snapshot.specs.items()):
            if disk in other.value.disks:
                raise Conflict(f"role {name} uses disk {disk} already", hint="give each role disks of its own")


def check_addition(spec: RoleSpec, guest: GuestDefinition, snapshot: Snapshot) -> None:
    """Refuse a role that is there already under any of its names, or that could not run on every node."""
    if spec.name in snapshot.specs:
        raise Conflict(
            f"there is a role {spec.name!r} already", hint="rename the guest in its XML, or remove the role first"
        )
    for other in snapshot.specs.values():
        if other.value.uuid == spec.uuid:
            raise Conflict(
                f"role {other.value.name} has the uuid {spec.uuid} already", hint="remove <uuid> from the XML"
            )
        if shared := set(other.value.disk_paths) & set(spec.disk_paths):
            raise Conflict(
                f"role {other.value.name} uses the disk {min(shared)} already", hint="give each role disks of its own"
            )
    check_disks(spec, snapshot)
    check_shared(guest.paths, snapshot.settings.shared_directories)
    check_links(guest.paths, snapshot.settings.shared_directories)
    for node, report in snapshot.reports.items():
        if spec.uuid in report.value.guests:
            raise Conflict(
                f"guest {spec.name} ({spec.uuid}) runs on {node} already, outside the cluster",
                hint=f"shut it down there first: virsh shutdown {spec.name}; then add it again",
            )
