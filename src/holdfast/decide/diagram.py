"""The lifecycle as a table for people, made from the code that decides, so that the page cannot differ from it.

Source: `docs/decisions.md` holds the result; a test compares the two.
"""

from __future__ import annotations

from itertools import product

from holdfast.decide.lifecycle import next_step
from holdfast.decide.steps import Act, Step
from holdfast.model.ids import Epoch, Incarnation, NodeName, RoleName
from holdfast.model.nodes import GuestObservation
from holdfast.model.roles import Ownership, Phase, RoleSpec, Wanted

_WORDS = {
    Act.NOTHING: "",
    Act.BRING_ONLINE: "bring it online",
    Act.TAKE_OFFLINE: "take it offline",
    Act.DESTROY: "remove it",
    Act.RESTORE: "restore it",
    Act.RESUME: "let it go on",
    Act.SAVE: "save it",
    Act.SETTLE_SAVE: "look whether it was saved",
    Act.MIGRATE: "copy it",
    Act.SETTLE_MIGRATION: "see what became of the copy",
    Act.WAIT: "wait for its disks",
}


def lifecycle_table() -> str:
    """Return every pair of phase and observation with the owner's next step, as a Markdown table."""
    lines = [
        "| phase | guest | wanted online | the same, restarts used up | wanted on another node | wanted offline |",
        "|---|---|---|---|---|---|",
    ]
    for phase, guest in product(Phase, GuestObservation):
        if phase is not Phase.VACANT:
            steps = (
                _step(phase, guest, Wanted.ONLINE, restart_limit=1),
                _step(phase, guest, Wanted.ONLINE, restart_limit=0),
                _step(phase, guest, Wanted.ONLINE, restart_limit=1, target=NodeName("other")),
                _step(phase, guest, Wanted.OFFLINE, restart_limit=1),
            )
            lines.append(f"| {phase} | {guest} | {' | '.join(map(_cell, steps))} |")
    return "\n".join(lines)


def _step(
    phase: Phase, guest: GuestObservation, wanted: Wanted, *, restart_limit: int, target: NodeName | None = None
) -> Step:
    owner = NodeName("node")
    ownership = Ownership(
        role=RoleName("role"),
        generation=1,
        phase=phase,
        epoch=Epoch(1),
        owner=owner,
        incarnation=Incarnation("start"),
        target=target,
        source=None if target is None else owner,
    )
    spec = RoleSpec(
        name=RoleName("role"),
        uuid="",
        domain_xml="",
        memory_bytes=0,
        vcpus=0,
        disk_paths=(),
        wanted=wanted,
        restart_limit=restart_limit,
    )
    return next_step(ownership, spec, guest, now_ms=0)


def _cell(step: Step) -> str:
    said = f"**{step.record.phase}**" if step.record is not None else ""
    return ", then ".join(filter(None, (said, _WORDS[step.act]))) or "nothing"
