"""Snapshots of any kind, also ones that no honest history leads to: decisions must be safe on all of them.

Hypothesis chooses the sizes, which it can shrink, and one seed for the rest: drawing each value from it takes 20 times
as long.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st
from tests.unit.decide.made_up import (
    GIB,
    NOW_MS,
    Part,
    cluster,
    coordinated_by,
    incarnation,
    known,
    lost,
    proven,
    put,
    role_spec,
    session,
    up,
)

from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName
from holdfast.model.nodes import Capacity, ProofKind
from holdfast.model.roles import Ownership, Phase, Priority, RoleSpec, Wanted
from holdfast.model.snapshot import Snapshot

NODES = [NodeName(name) for name in "abcd"]
ROLES = [RoleName(name) for name in ("web", "db", "mail", "ci", "log")]
TIMES = [NOW_MS, NOW_MS - 9_999, NOW_MS - 10_000, NOW_MS - 21_600_001, NOW_MS + 60_000]


def _made_up(nodes: int, roles: int, seed: int) -> Snapshot:
    random = Random(seed)
    parts: list[Part] = [coordinated_by("a")]
    for node in random.sample(NODES, nodes):
        parts += _node(node, random)
    for role in random.sample(ROLES, roles):
        spec = _spec(role, random)
        parts.append(put("specs", role, spec))
        if random.random() < 0.8:
            parts.append(put("ownerships", role, _ownership(spec, random)))
    return cluster(*parts)


def snapshots() -> st.SearchStrategy[Snapshot]:
    """Clusters of up to four nodes and five roles in any state."""
    return st.builds(_made_up, nodes=st.integers(0, 4), roles=st.integers(0, 5), seed=st.integers(0, 2**32))


def _node(node: NodeName, random: Random) -> list[Part]:
    set_capacity = random.choice([None, None, _capacity(random)])
    parts = [known(node, is_paused=random.random() < 0.1, capacity=set_capacity)]
    if random.random() < 0.5:
        parts.append(lost(node, random.randint(1, 2), losses=tuple(random.choices(TIMES, k=random.randint(0, 4)))))
    parts += [proven(node, number, random.choice(list(ProofKind))) for number in (1, 2) if random.random() < 0.4]
    if random.random() < 0.7:
        number, has = random.randint(1, 2), _capacity(random)
        not_ready = random.choice([None, None, None, None, "no guard"])
        parts.append(up(node, number, memory_bytes=has.memory_bytes, vcpus=has.vcpus, not_ready=not_ready))
        seen = number if random.random() < 0.9 else 3 - number
        parts.append(put("sessions", node, session(node, seen, stopping=random.random() < 0.1)))
    return parts


def _capacity(random: Random) -> Capacity:
    return Capacity(memory_bytes=random.randint(0, 6) * GIB, vcpus=random.randint(0, 4))


def _spec(role: RoleName, random: Random) -> RoleSpec:
    return role_spec(
        role,
        memory_bytes=random.randint(0, 3) * GIB,
        vcpus=random.randint(0, 5),
        wanted=random.choice([Wanted.ONLINE, Wanted.ONLINE, Wanted.OFFLINE]),
        priority=random.choice(list(Priority)),
        preferred_owners=tuple(random.sample(NODES, random.randint(0, 3))),
        possible_owners=tuple(random.sample(NODES, random.choice([0, 0, 1, 3]))),
        generation=random.randint(1, 2),
    )


def _ownership(spec: RoleSpec, random: Random) -> Ownership:
    phase = random.choice(list(Phase))
    owner: NodeName | None = None
    started: Incarnation | None = None
    if phase is not Phase.VACANT:
        owner = random.choice(NODES)
        started = incarnation(owner, random.randint(1, 2))
    return Ownership(
        role=spec.name,
        phase=phase,
        epoch=Epoch(random.randint(0, 9)),
        owner=owner,
        incarnation=started,
        since_ms=random.choice(TIMES),
        failovers=tuple(random.choices(TIMES, k=random.choice([0, 0, 1, 4]))),
        failed_on=tuple(random.sample(NODES, random.choice([0, 0, 1, 2]))),
        generation=random.randint(1, 2),
    )
