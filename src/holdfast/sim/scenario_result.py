"""What came of a scenario. The models here are the format of `--json`.

Rule of the file: all times are seconds from the beginning of the time line.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ResultPart(BaseModel):
    """A part of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VerdictPart(ResultPart):
    """One expectation and what was seen."""

    expected: str
    """The expectation in words."""

    passed: bool
    """Whether it was met."""

    seen: str
    """What was seen when it was judged."""

    judged_at: float
    """When it was met, or found not to be."""


class LinePart(ResultPart):
    """One line of the time line."""

    at: float
    """When."""

    source: str
    """`scenario` (an event of the file), `person` (an answer), `world`, `cluster` (its own events), or `guest`."""

    code: str
    """What happened, in a word."""

    subject: str
    """To whom: a node or a role."""

    text: str
    """The whole story."""


class OwnerPart(ResultPart):
    """A time during which the cluster's records gave a role to a node."""

    role: str
    """The role."""

    node: str
    """Its owner."""

    epoch: int
    """The epoch of this ownership."""

    since: float
    """From when; negative: before the time line began."""

    until: float | None
    """Until when; null: to the end."""

    ended_by: str | None
    """`released`, `removed`, or the kind of proof by which it was taken over, such as `power`; null: it lasts."""

    reasons: tuple[str, ...]
    """Why this node was chosen."""


class GuestPart(ResultPart):
    """A time during which a role's guest really existed on a node."""

    role: str
    """The role."""

    node: str
    """The node."""

    since: float
    """From when; negative: before the time line began."""

    until: float | None
    """Until when; null: to the end."""

    ended_by: str | None
    """Why it ended; null: it lasts."""


class FencePart(ResultPart):
    """A proof that a start of a node can do no harm any more."""

    node: str
    """The node."""

    at: float
    """When it was committed."""

    proof: str
    """`power`, `watchdog`, `person`, or `restarted` (the node itself came back, so nobody had to fence it)."""

    by: str
    """Who recorded it."""

    reasons: tuple[str, ...]
    """What it rests on."""


class NodeEndPart(ResultPart):
    """A node at the end."""

    name: str
    """Its name."""

    power: bool
    """Whether it has power."""

    state: str
    """Its state in `holdfast status`."""

    roles: tuple[str, ...]
    """The roles whose guests really exist there."""


class RoleEndPart(ResultPart):
    """A role at the end."""

    name: str
    """Its name."""

    wanted: str
    """What a person wants of it."""

    state: str
    """Its state in `holdfast status`."""

    owner: str | None
    """Its owner in the records."""

    runs_on: tuple[str, ...]
    """Where its guest really exists."""

    starts: int
    """How often its guest was started since the time line began."""

    reasons: tuple[str, ...]
    """Why it is so."""


class ConditionPart(ResultPart):
    """A condition that stands at the end."""

    code: str
    """Its code."""

    subject: str
    """What it is about."""

    text: str
    """Its sentence."""


class ScenarioResult(ResultPart):
    """The result of one scenario."""

    scenario: str
    """Its title."""

    file: str
    """The file that it was read from."""

    seed: int
    """The seed that it ran with."""

    passed: bool
    """Whether every expectation was met and no rule was broken."""

    broken_rules: tuple[str, ...]
    """The safety rules that were broken, each with the story; always judged, whatever is expected."""

    setup_problems: tuple[str, ...]
    """What of the beginning could not be reached, such as a role that did not come up on its first owner."""

    expectations: tuple[VerdictPart, ...]
    """Every expectation, and every request of a person, with what was seen."""

    timeline: tuple[LinePart, ...]
    """What happened, in the order of time."""

    owners: tuple[OwnerPart, ...]
    """Who owned each role and how it ended, by role and time."""

    guests: tuple[GuestPart, ...]
    """Where each role's guest really existed, by role and time."""

    fences: tuple[FencePart, ...]
    """Every proof since the time line began."""

    nodes: tuple[NodeEndPart, ...]
    """The nodes at the end."""

    roles: tuple[RoleEndPart, ...]
    """The roles at the end."""

    conditions: tuple[ConditionPart, ...]
    """The conditions at the end."""

    virtual_seconds: float
    """How long the time line was."""

    setup_seconds: float
    """How long the cluster took to come up before it."""


def result_schema() -> dict[str, Any]:
    """The JSON schema of a result."""
    made = ScenarioResult.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
