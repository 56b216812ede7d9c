"""Why a role is where it is, why not elsewhere, and why it does not run: the same functions that decide, asked again.

Source: DESIGN section 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.decide.coordination import kept, where_to
from holdfast.decide.freedom import freedom_of, needs_decision, obstacle, wants_owner
from holdfast.decide.layout import Layout
from holdfast.decide.placement import candidacy, refusals
from holdfast.decide.settling import settling
from holdfast.decide.storage_loss import lost_disk, too_often
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.roles import Ownership, Phase, RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What can be said of a role.

    here           why it is in its present place and phase.
    not_running    why it does not run; empty when it does or when nobody wants it to.
    elsewhere      per other node, why it could not go there; an empty tuple: it could.
    """

    role: RoleName
    phase: Phase
    owner: NodeName | None
    here: tuple[Reason, ...]
    not_running: tuple[Reason, ...]
    elsewhere: Mapping[NodeName, tuple[Reason, ...]]


def explain_role(
    snapshot: Snapshot, role: RoleName, now_ms: int, fencing: Mapping[NodeName, tuple[Reason, ...]]
) -> Explanation:
    """Explain a role that exists. `fencing`: per lost node without proof, how far fencing it has come."""
    spec = snapshot.specs[role].value
    versioned = snapshot.ownerships.get(role)
    ownership = versioned.value if versioned is not None else Ownership(role=role)
    layout = Layout(snapshot, now_ms)
    layout.lift(spec, ownership)
    search = candidacy(spec, ownership, layout)
    elsewhere = {node: refusals(search, node) for node in sorted(snapshot.nodes) if node != ownership.owner}
    return Explanation(
        role=role,
        phase=ownership.phase,
        owner=ownership.owner,
        here=(*ownership.reasons, *_kept_here(snapshot, spec, ownership, now_ms)),
        not_running=why_not_running(snapshot, role, now_ms, fencing),
        elsewhere=elsewhere,
    )


def _kept_here(snapshot: Snapshot, spec: RoleSpec, ownership: Ownership, now_ms: int) -> tuple[Reason, ...]:
    """Why it does not leave disks that its node lost, when it did so too often."""
    if ownership.owner is None or ownership.phase is not Phase.ONLINE or ownership.target is not None:
        return ()
    is_cut_off = lost_disk(snapshot, spec, ownership.owner) is not None
    return too_often([(spec, ownership)], now_ms) if is_cut_off else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Why a role is not online. `is_blocked`: it stays so until what the reasons name has happened."""

    reasons: tuple[Reason, ...] = ()
    is_blocked: bool = False


def why_not_running(
    snapshot: Snapshot, role: RoleName, now_ms: int, fencing: Mapping[NodeName, tuple[Reason, ...]]
) -> tuple[Reason, ...]:
    """Return why a role is not online; empty when it is, on a node that is up."""
    return standstill(snapshot, role, fencing, Layout(snapshot, now_ms)).reasons


def _unwanted(spec: RoleSpec) -> Reason:
    if spec.wanted is Wanted.OFFLINE:
        return because(ReasonCode.WANTED_OFFLINE, spec.name)
    return because(ReasonCode.NO_AUTOSTART, spec.name)


def standstill(
    snapshot: Snapshot, role: RoleName, fencing: Mapping[NodeName, tuple[Reason, ...]], layout: Layout
) -> Standstill:
    """Say why a role is not online. `layout`: of this snapshot, made once by who asks about many roles."""
    now_ms = layout.now_ms
    spec = snapshot.specs[role].value
    versioned = snapshot.ownerships.get(role)
    ownership = versioned.value if versioned is not None else Ownership(role=role)
    wanted = wants_owner(spec, ownership)
    if not needs_decision(spec, ownership, snapshot):
        if wanted or ownership.owner is not None:
            return Standstill(reasons=() if ownership.phase is Phase.ONLINE else ownership.reasons)
        return Standstill(reasons=(_unwanted(spec),))
    freedom = freedom_of(ownership, snapshot, now_ms)
    if freedom.blocked:
        detail = fencing.get(ownership.owner, ()) if ownership.owner is not None else ()
        return Standstill(reasons=(*freedom.blocked, *detail), is_blocked=True)
    if not wanted:
        return Standstill(reasons=(_unwanted(spec),))
    if against := obstacle(spec, ownership, freedom, snapshot, now_ms):
        return Standstill(reasons=(*ownership.reasons, *against), is_blocked=True)
    if ownership.target is None and (wait := settling(snapshot, now_ms)) is not None:
        return Standstill(reasons=wait.reasons)
    layout.lift(spec, ownership)
    choice = where_to(spec, ownership, layout)
    layout.put_back(spec, ownership)
    if choice.node is None:
        against = (*choice.reasons, *(one for why in choice.refused.values() for one in why), *kept(ownership))
        return Standstill(reasons=against, is_blocked=True)
    return Standstill(reasons=freedom.reasons)
