"""Roles that hard affinity labels bind together: they are placed and moved as one.

Rule of the file: two roles are bound when they share an affinity label that is hard for either,
and so are those bound to one of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.model.ids import RoleName
from holdfast.model.roles import RoleSpec


def bound_together(specs: Iterable[RoleSpec]) -> dict[RoleName, tuple[RoleSpec, ...]]:
    """Return per role those of the given ones that must be on its node too; roles bound to nobody are left out."""
    carriers: dict[str, list[RoleSpec]] = {}
    for spec in specs:
        for label in spec.affinity:
            carriers.setdefault(label.name, []).append(spec)
    group_of: dict[RoleName, dict[RoleName, RoleSpec]] = {}
    for name, sharing in carriers.items():
        hard = [spec for spec in sharing if any(label.is_hard for label in spec.affinity if label.name == name)]
        bound = sharing if hard else []
        merged: dict[RoleName, RoleSpec] = {}
        for spec in bound:
            merged |= group_of.get(spec.name, {spec.name: spec})
        for member in merged:
            group_of[member] = merged
    return {
        role: tuple(group[name] for name in sorted(group) if name != role)
        for role, group in group_of.items()
        if len(group) > 1
    }
