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
    frozen,
    incarnation,
    known,
    lost,
    proven,
    put,
    role_spec,
    session,
    up,
    with_settings,
)

from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName, SiteName
from holdfast.model.nodes import Capacity, MemoryTarget, ProofKind, Return
from holdfast.model.roles import (
    Failback,
    FailbackPolicy,
    Label,
    Memory,
    MemoryKind,
    MoveMethod,
    Ownership,
    Phase,
    Priority,
    Receiver,
    RoleSpec,
    Wanted,
)
from holdfast.model.settings import Settings
from holdfast.model.snapshot import Snapshot

NODES = [NodeName(name) for name in "abcd"]
SITES = [SiteName("east"), SiteName("west")]
LABELS = ["x", "y"]
FAILBACKS = [
    Failback(),
    Failback(policy=FailbackPolicy.AT_ONCE),
    Failback(policy=FailbackPolicy.WINDOW, from_hour=22, until_hour=23),
    Failback(policy=FailbackPolicy.WINDOW, from_hour=20, until_hour=4),
]
ROLES = [RoleName(name) for name in ("web", "db", "mail", "ci", "log")]
METHODS = [MoveMethod.LIVE, MoveMethod.QUICK, MoveMethod.RESTART]
TIMES = [NOW_MS, NOW_MS - 9_999, NOW_MS - 10_000, NOW_MS - 21_600_001, NOW_MS + 60_000]


def _made_up(nodes: int, roles: int, seed: int) -> Snapshot:
    random = Random(seed)
    settings = Settings(
        moves_at_once=random.randint(1, 4),
        failback_settle_s=random.choice([0, 60]),
        saved_state_directory=random.choice(["", "/saved"]),
    )
    parts: list[Part] = [with_settings(settings), coordinated_by("a")]
    if random.random() < 0.2:
        parts.append(frozen())
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
    drains = random.random() < 0.15
    parts = [
        known(
            node,
            capacity=set_capacity,
            site=random.choice([None, *SITES]),
            is_paused=drains or random.random() < 0.1,
            is_draining=drains,
            returns=random.choice(list(Return)),
        )
    ]
    if random.random() < 0.5:
        parts.append(lost(node, random.randint(1, 2), losses=tuple(random.choices(TIMES, k=random.randint(0, 4)))))
    parts += [proven(node, number, random.choice(list(ProofKind))) for number in (1, 2) if random.random() < 0.4]
    if random.random() < 0.7:
        number, has = random.randint(1, 2), _capacity(random)
        not_ready = random.choice([None, None, None, None, "no guard"])
        takes = random.choice([None, MemoryTarget(uri=f"sim://{node}")])
        part = up(
            node,
            number,
            memory_bytes=has.memory_bytes,
            vcpus=has.vcpus,
            not_ready=not_ready,
            takes_memory=takes,
        )
        parts.append(part)
        seen = number if random.random() < 0.9 else 3 - number
        started_at_ms = NOW_MS - random.choice([3_600_000, 3_600_000, 30_000, 1000])
        seen_as = session(node, seen, stopping=random.random() < 0.1, started_at_ms=started_at_ms)
        parts.append(put("sessions", node, seen_as))
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
        preferred_site=random.choice([None, *SITES]),
        affinity=_labels(random),
        anti_affinity=_labels(random),
        failback=random.choice(FAILBACKS),
    )


def _labels(random: Random) -> tuple[Label, ...]:
    names = random.sample(LABELS, random.choice([0, 0, 1, 2]))
    return tuple(Label(name=name, is_hard=random.random() < 0.5) for name in names)


def _ownership(spec: RoleSpec, random: Random) -> Ownership:
    phase = random.choice(list(Phase))
    owner: NodeName | None = None
    started: Incarnation | None = None
    if phase is not Phase.VACANT:
        owner = random.choice(NODES)
        started = incarnation(owner, random.randint(1, 2))
    keeps_memory = phase in (Phase.SAVING, Phase.MIGRATING)
    moves = random.random() < (0.9 if keeps_memory else 0.25)
    return Ownership(
        role=spec.name,
        target=random.choice(NODES) if moves else None,
        source=random.choice(NODES) if moves else None,
        drained_from=random.choice([None, None, *NODES]),
        phase=phase,
        epoch=Epoch(random.randint(0, 9)),
        owner=owner,
        incarnation=started,
        since_ms=random.choice(TIMES),
        failovers=tuple(random.choices(TIMES, k=random.choice([0, 0, 1, 4]))),
        failed_on=tuple(random.sample(NODES, random.choice([0, 0, 1, 2]))),
        generation=random.randint(1, 2),
        method=random.choice([None, *METHODS]) if moves else None,
        is_auto=random.random() < 0.5,
        ordered_ms=random.choice([0, *TIMES]),
        making=_memory(random) if keeps_memory or random.random() < 0.1 else None,
        receiving=_receiver(random) if phase is Phase.MIGRATING or random.random() < 0.1 else None,
        memory=_memory(random) if random.random() < 0.2 else None,
        disk_generation=random.randint(0, 2),
    )


def _memory(random: Random) -> Memory:
    return Memory(
        kind=random.choice(list(MemoryKind)),
        id=random.choice(["", "m1", "m2"]),
        disk_generation=random.randint(0, 2),
        is_consumed=random.random() < 0.3,
    )


def _receiver(random: Random) -> Receiver:
    node = random.choice(NODES)
    return Receiver(node=node, incarnation=incarnation(node, random.randint(1, 2)))
