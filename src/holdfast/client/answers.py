"""The small answers of holdfastd; the large ones are the documents of `holdfast.model.status`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who answers. `node` and `cluster` are None while the machine is in no cluster."""

    node: str | None
    cluster: str | None
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddresses:
    """The addresses of a node as they are now. `text`: on which networks it is heard now, and was before."""

    node: str
    addresses: dict[str, str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeState:
    """Whether the cluster is frozen now: then it does nothing by itself."""

    cluster: str
    is_frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictedNode:
    """A node that left the cluster. `was_up`: its machine runs, and forgets the cluster by itself."""

    node: str
    was_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenCluster:
    """What a machine was that is in no cluster any more. `kept`: the folder with what it had of the cluster."""

    node: str
    cluster: str
    kept: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedKey:
    """The id of the secret that heartbeats are made with; the secret itself is never shown."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that lets one node join, until `expires_at_ms` (wall clock)."""

    token: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceAnswer:
    """What a node's fence device says: `state` is on, off or unknown."""

    state: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedDown:
    """The incarnation of a node that a person confirmed to be down."""

    node: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRole:
    """The name of a role that no longer exists."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainXml:
    """The libvirt domain of a role, as the cluster database has it."""

    domain_xml: str
