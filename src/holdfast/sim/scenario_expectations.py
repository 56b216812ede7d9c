"""What a scenario expects: of a role, of a node, of fencing, of conditions.

Rule of the file: who runs where and how often is judged by what the simulated hypervisors saw; states, reasons and
conditions are what `holdfast status` answers at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Discriminator, Field, StrictBool, Tag

from holdfast.model.nodes import ProofKind
from holdfast.model.status import NodeState, RoleState
from holdfast.sim.scenario_cluster import Switch
from holdfast.sim.scenario_values import Duration, MaybeNames, Moment, Name, Names, Part


class ExpectationPart(Part):
    """When it must hold: `at` a time, or some time `within` so long `after` an event; left out: at the end."""

    at: Moment = None
    """The time at which it must hold, from the beginning of the time line; `end`, the default, is the end."""

    within: Duration | None = None
    """It must hold at some time before so long has passed since the event that `after` names."""

    after: Name | None = None
    """The name of an event. Without `within`: what happened since then is counted."""


class RoleExpectation(ExpectationPart):
    """What is expected of roles. With several keys, all must hold at the same time."""

    role: Names
    """The role; several, or `all`, when it is expected of each."""

    runs_on: Names | None = None
    """Its guest exists on exactly one node, and on one of these; `nowhere`: on none."""

    not_on: Names | None = None
    """Its guest exists on none of these nodes."""

    state: RoleState | None = None
    """Its state in `holdfast status`; for `online` its guest must also exist on one node that is not frozen."""

    because: str | None = None
    """A reason code, or a part of a sentence, that `holdfast explain` gives for the role now."""

    starts: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=0)], Annotated[int, Field(strict=True, ge=0)]] | None,
        BeforeValidator(
            lambda value: (value, value) if isinstance(value, int) else value,
            json_schema_input_type=Annotated[int, Field(strict=True, ge=0)]
            | Annotated[list[int], Field(min_length=2, max_length=2)]
            | None,
        ),
    ] = None
    """How often its guest was started since `after` or the beginning: a number, or the least and the most."""

    moved: StrictBool | None = None
    """Whether its guest ended or was started, anywhere, since `after` or the beginning."""


class NodeExpectation(ExpectationPart):
    """What is expected of nodes."""

    node: Names
    """The node; several, or `all`, when it is expected of each."""

    state: NodeState | None = None
    """Its state in `holdfast status` on another node, if there is one that can say."""

    power: Switch | None = None
    """Whether it has power."""


class FencedExpectation(ExpectationPart):
    """Which nodes were fenced."""

    fenced: MaybeNames
    """Exactly these nodes were proven down since the beginning, by the others or by a person; `[]`: none."""

    proof: ProofKind | None = None
    """Each of them by this kind of proof."""


class ConditionExpectation(ExpectationPart):
    """Whether a condition stands."""

    condition: Name
    """Its code."""

    of: Name | None = None
    """Its subject; left out: any."""

    present: StrictBool = True
    """Whether it stands, or must not."""


class VotersExpectation(ExpectationPart):
    """Who votes."""

    voters: MaybeNames
    """Exactly these nodes vote in the cluster database. Only where votes move."""


SUBJECTS: Final[dict[str, type[ExpectationPart]]] = {
    "role": RoleExpectation,
    "node": NodeExpectation,
    "fenced": FencedExpectation,
    "condition": ConditionExpectation,
    "voters": VotersExpectation,
}
"""The kinds of expectation by the key that tells them apart."""


def tag_of(subject: str) -> str:
    """How a kind is called inside of validation errors; no key is called so."""
    return f"<{subject}>"


def _which(value: Any) -> str | None:
    for subject, part in SUBJECTS.items():
        if isinstance(value, part) or (isinstance(value, Mapping) and subject in value):
            return tag_of(subject)
    return None


Expectation = Annotated[
    Annotated[RoleExpectation, Tag(tag_of("role"))]
    | Annotated[NodeExpectation, Tag(tag_of("node"))]
    | Annotated[FencedExpectation, Tag(tag_of("fenced"))]
    | Annotated[ConditionExpectation, Tag(tag_of("condition"))]
    | Annotated[VotersExpectation, Tag(tag_of("voters"))],
    Discriminator(
        _which,
        custom_error_type="expectation",
        custom_error_message="wanted one of the keys role, node, fenced, condition, voters, which say what is expected",
    ),
]
