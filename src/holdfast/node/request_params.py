"""What each request of the local socket takes, checked before anything is done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast.membership.identity import IpText
from holdfast.model.ids import FAULT_DOMAIN_PATTERN, FaultDomain
from holdfast.model.nodes import FenceSpec, Return
from holdfast.model.roles import Failback, Label, MoveMethod, StorageLoss, Wanted

FaultDomainText = Annotated[FaultDomain, Field(pattern=FAULT_DOMAIN_PATTERN)]


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(_Params):
    """A method that takes nothing."""


class TokenParams(_Params):
    """`token.create`."""

    ttl_s: int = Field(default=3600, ge=1, le=7 * 86_400)


class SettingsParams(_Params):
    """`cluster.set`; names are dotted, values as on a command line. All change or none; a dry run changes nothing."""

    changes: dict[str, Any] = Field(min_length=1)
    dry_run: bool = False


class NodeParams(_Params):
    """A node by its name."""

    node: str


class RenewParams(_Params):
    """`certificate.renew`; without a node all of them."""

    node: str | None = None


class NodeSetParams(NodeParams):
    """`node.set`: what is absent stays; `fence: null` takes the device away, `site: null` the site.

    fault_domains   those that it depends on from now on (true), or no longer (false).
    """

    fence: FenceSpec | None = None
    memory_bytes: int | None = Field(default=None, gt=0)
    vcpus: int | None = Field(default=None, gt=0)
    paused: bool | None = None
    site: str | None = Field(default=None, min_length=1)
    fault_domains: dict[FaultDomainText, bool] = {}


class AddressParams(NodeParams):
    """`node.addresses`: per network the node's address there, or null to take it away."""

    addresses: dict[str, IpText | None] = Field(min_length=1)


class ConfirmParams(NodeParams):
    """`node.confirm-down`: who says so, and why."""

    person: str = Field(min_length=1)
    reason: str = Field(min_length=1)


PriorityName = Literal["high", "medium", "low", "no-autostart"]


class RoleChoices(_Params):
    """What a person may choose for a role; None leaves it as it is, an empty `preferred_site` prefers none."""

    priority: PriorityName | None = None
    preferred_owners: tuple[str, ...] | None = None
    possible_owners: tuple[str, ...] | None = None
    restart_limit: int | None = Field(default=None, ge=0, le=100)
    failover_limit: int | None = Field(default=None, ge=0, le=100)
    shutdown_timeout_ms: int | None = Field(default=None, ge=0, le=3_600_000)
    preferred_site: str | None = None
    affinity: tuple[Label, ...] | None = None
    anti_affinity: tuple[Label, ...] | None = None
    failback: Failback | None = None
    move_method: MoveMethod | None = None
    on_storage_loss: StorageLoss | None = None


class AddParams(RoleChoices):
    """`vm.add`."""

    domain_xml: str
    wanted: Wanted = Wanted.ONLINE


class RoleParams(_Params):
    """A role by its name."""

    role: str
    wait: bool = False


class RoleSetParams(RoleChoices):
    """`vm.set`."""

    role: str


class MoveParams(RoleParams):
    """`role.move`; without `to` the best other node is chosen, without `method` the role moves as it is set to.

    timeout_s   a move that has not arrived by then is taken back, as far as it can be; only with `wait`.
    """

    to: str | None = None
    method: MoveMethod | None = None
    timeout_s: int | None = Field(default=None, ge=1)


class DiscardParams(_Params):
    """`role.discard-saved-state`: who says so."""

    role: str
    person: str = Field(min_length=1)


class DrainParams(NodeParams):
    """`node.drain`; a dry run changes nothing. `force`: also when some roles would find no room and run on there."""

    dry_run: bool = False
    wait: bool = False
    force: bool = False
    method: MoveMethod | None = None


class BalanceParams(_Params):
    """`cluster.balance`; without a threshold that of the settings counts. A dry run changes nothing."""

    threshold_percent: int | None = Field(default=None, ge=1, le=100)
    dry_run: bool = False


class ResumeParams(NodeParams):
    """`node.resume`: what becomes of the roles that its drain moved away."""

    failback: Return = Return.POLICY


class FreezeParams(_Params):
    """`cluster.freeze`: who says so, and why."""

    person: str = Field(min_length=1)
    reason: str = ""


class RemoveParams(_Params):
    """`vm.remove`."""

    role: str
    force: bool = False


class HistoryParams(_Params):
    """`role.history`."""

    role: str
    limit: int = Field(default=20, ge=1, le=10_000)


class EventParams(_Params):
    """`events`."""

    limit: int = Field(default=50, ge=0, le=10_000)
