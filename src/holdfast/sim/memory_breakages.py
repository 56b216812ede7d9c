"""Deliberate breakages of moving memory: what it is taken from, and when it executes.

Rule of the file: see `breakages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from holdfast.sim import broken_memory as broken
from holdfast.sim.breakage import Breakage
from holdfast.sim.broken_parts import always
from holdfast.sim.fault import FaultKind as K
from holdfast.sim.layout import Make
from holdfast.sim.mutation import Mutation, inside, within

RULES: Final = ("SAFE-7",)


def _few(make: Make) -> Make:
    """Two roles, so that each moves often, and no watchdog or fence device that would hide what is left over."""
    return replace(make, roles=2, has_fence=False, watchdog_s=None)


OF_MEMORY: Final[Mapping[str, Mutation]] = {
    "restores-the-used": Mutation(
        "a guest that ended is restored from the memory that it was restored from before",
        within(10, K.MEMORY_MOVED, K.GUEST_CRASH, rules=RULES, is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.node.executor:next_step", broken.restores_what_was_used),
                ("holdfast.node.executor:needless", always(())),
            )
        ),
    ),
    "resumes-unconsumed": Mutation(
        "a guest executes from memory before its record says that this memory is consumed",
        within(5, K.MEMORY_MOVED, rules=RULES, is_quick=True),
        inside("holdfast.node.executor:next_step", broken.resumes_unconsumed),
    ),
    "resumes-while-saving": Mutation(
        "a guest whose memory could not be saved goes on before its record has given the attempt up",
        within(10, K.MEMORY_MOVED, K.SAVED_STORAGE_FULL, rules=RULES, is_quick=True),
        inside("holdfast.node.memory_moves:MemoryMoves._after_failed", broken.resumes_while_saving),
    ),
    "takes-any-file": Mutation(
        "a guest that ended while it was saved is restored from the file of an earlier attempt",
        within(40, K.MEMORY_MOVED, K.MEMORY_ACT_FAILS, K.GUEST_CRASH, rules=RULES),
        Breakage(
            replaced=(
                ("holdfast.node.memory_moves:MemoryMoves.settle_save", broken.any_file_will_do),
                ("holdfast.node.executor:needless", always(())),
            )
        ),
    ),
    "resumes-stale-copy": Mutation(
        "a copy of a guest that was given up is left where it is, and later taken for the role's own process",
        within(40, K.MEMORY_MOVED, K.MEMORY_ACT_FAILS, K.POWER_CUT, rules=RULES),
        Breakage(
            replaced=(
                ("holdfast.node.executor:next_step", broken.blind_to_ids),
                ("holdfast.node.executor:Executor._remove_stray", broken.spares_strays),
            ),
            make=_few,
        ),
    ),
    "ends-what-waits": Mutation(
        "a guest that came with its memory is ended because the disks of its role are not ready there",
        within(5, K.MEMORY_MOVED, K.TARGET_HANGS, K.TARGET_FORGETS, rules=RULES, disks=2, is_quick=True),
        inside("holdfast.node.executor:next_step", broken.ends_what_waits),
    ),
    "fresh-despite-memory": Mutation(
        "a role whose memory was saved is assigned as if there were none",
        within(5, K.MEMORY_MOVED, rules=RULES, is_quick=True),
        inside("holdfast.decide.coordination:lasting", always(None)),
    ),
    "restarts-instead": Mutation(
        "a live or quick move is carried out as a restart",
        within(5, K.MEMORY_MOVED, rules=RULES, is_quick=True),
        inside("holdfast.node.executor:next_step", broken.shuts_down_instead),
    ),
    "discards-at-any-time": Mutation(
        "a person's word discards memory that its owner is just restoring",
        within(20, K.MEMORY_MOVED, K.MEMORY_DISCARDED, rules=RULES, is_quick=True),
        inside("holdfast.node.maintenance_requests:discard_memory", broken.discards_what_runs),
    ),
    "tidies-too-much": Mutation(
        "files of saved memory are removed although a record names them",
        within(5, K.MEMORY_MOVED, rules=RULES, is_quick=True),
        Breakage(
            replaced=(
                ("holdfast.node.saved_memory:left_over", broken.nothing_is_named),
                ("holdfast.node.saved_memory:LOOK_EVERY_S", lambda _: 0.5),
                ("holdfast.sim.daemons:LEFT_OVER_KEPT_S", lambda _: 0.0),
            )
        ),
    ),
    "hands-over-anyway": Mutation(
        "a role whose copying failed is handed to its target all the same",
        within(20, K.MEMORY_MOVED, K.MEMORY_ACT_FAILS, rules=RULES, is_quick=True),
        inside("holdfast.node.memory_moves:MemoryMoves._after_failed", broken.hands_over_anyway),
    ),
}
