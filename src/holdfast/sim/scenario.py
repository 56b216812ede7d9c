"""A scenario: a cluster, what happens to it, and what is expected. The models here are the format of the file.

Rule of the file: the JSON schema is made of these models, and every key has its sentence beside it.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, TypeAdapter

from holdfast.sim.scenario_cluster import ClusterPart, DiskPart, Disks, NodePart, Nodes, RolePart, Roles, Votes
from holdfast.sim.scenario_events import KINDS, OF_VOTES, EventPart
from holdfast.sim.scenario_expectations import Expectation, VotersExpectation
from holdfast.sim.scenario_values import Duration, MaybeNames, Name, Names, Part, Size

SETTLE_S: Final = 30.0
VALUES: Final[dict[str, Any]] = {
    "Name": Name,
    "Names": Names,
    "MaybeNames": MaybeNames,
    "Duration": Duration,
    "Size": Size,
}
"""What the schema calls by its name wherever it occurs."""


class Scenario(Part):
    """A scenario file."""

    scenario: str = Field(min_length=1)
    """What it shows, in one line."""

    description: str = ""
    """More about it, for a reader."""

    seed: int = Field(default=1, strict=True, ge=0)
    """What chance there is: incarnations, delays of packets, elections of the database. `--seed` takes another one."""

    cluster: ClusterPart = ClusterPart()
    """Settings of the whole cluster."""

    nodes: Nodes
    """The nodes: a number (node1, node2, …), or a list."""

    roles: Roles = ()
    """The roles: a number (web1, web2, …), or a list."""

    disks: Disks = ()
    """The shared disks: a number (disk1, disk2, …), or a list."""

    events: tuple[EventPart, ...] = ()
    """What happens. The time line begins when all nodes that have power are up and all wanted roles run."""

    expect: tuple[Expectation, ...] = ()
    """What must hold. That no guest ever runs twice, and the other safety rules, are always expected."""

    until: Duration | None = None
    """The end of the run, from the beginning of the time line."""

    settle: Duration | None = None
    """Instead of `until`: how long it runs on after the last event and the last timed expectation. Default: 30 s."""

    def all_nodes(self) -> tuple[NodePart, ...]:
        """Every node by itself."""
        return tuple(
            one.model_copy(update={"name": name}) for one in self.nodes for name in _names(one.name, one.count)
        )

    def all_roles(self) -> tuple[RolePart, ...]:
        """Every role by itself that is there at first."""
        return tuple(
            one.model_copy(update={"name": name}) for one in self.roles for name in _names(one.name, one.count)
        )

    def all_disks(self) -> tuple[DiskPart, ...]:
        """Every shared disk by itself."""
        return tuple(
            one.model_copy(update={"name": name}) for one in self.disks for name in _names(one.name, one.count)
        )

    @property
    def do_votes_move(self) -> bool:
        """Whether the coordinator moves votes, as in a real cluster."""
        if self.cluster.votes is not Votes.AUTO:
            return self.cluster.votes is Votes.MOVING
        has_witness = any(node.witness for node in self.nodes)
        is_expected = any(isinstance(one, VotersExpectation) for one in self.expect)
        return has_witness or is_expected or any(event.kind in OF_VOTES for event in self.events)

    @property
    def ends_s(self) -> float:
        """When it ends, in seconds from the beginning of the time line."""
        if self.until is not None:
            return self.until
        times = {event.name: event.at for event in self.events if event.name is not None}
        ends = [event.at for event in self.events]
        for expectation in self.expect:
            if expectation.at is not None:
                ends.append(expectation.at)
            if expectation.within is not None and expectation.after is not None:
                ends.append(times.get(expectation.after, 0.0) + expectation.within)
        return max(ends, default=0.0) + (SETTLE_S if self.settle is None else self.settle)


def schema() -> dict[str, Any]:
    """The JSON schema of a scenario file."""
    values: dict[str, Any] = {}
    for name, value in VALUES.items():
        values[name] = _plain(TypeAdapter(value).json_schema(), values)
    made = _plain(Scenario.model_json_schema(by_alias=True, mode="validation"), values)
    made["$defs"]["EventPart"]["oneOf"] = [{"required": [kind.replace("_", "-")]} for kind in KINDS]
    made["$defs"] |= values
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Scenario", **made}


def _plain(made: Any, values: dict[str, Any]) -> Any:
    """A schema for people: values by name, no titles that repeat the key, and no null for what may be left out."""
    if isinstance(made, list):
        return [_plain(one, values) for one in made if one != {"type": "null"}]
    if not isinstance(made, dict):
        return made
    kept = {key: _plain(value, values) for key, value in made.items() if key != "title" or isinstance(value, dict)}
    if made.get("default", "") is None:
        del kept["default"]
    if len(kept.get("anyOf", ())) == 1:
        kept = {**kept.pop("anyOf")[0], **kept}
    about = {key: kept[key] for key in ("description", "default") if key in kept}
    bare = {key: value for key, value in kept.items() if key not in about}
    name = next((name for name, value in values.items() if value == bare), None)
    return kept if name is None else {"$ref": f"#/$defs/{name}", **about}


def _names(name: Name, count: int | None) -> list[Name]:
    return [name] if count is None else [f"{name}{number}" for number in range(1, count + 1)]
