"""What each request about disks takes, checked before anything is done."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from holdfast.model.disks import Protection

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChapParams(_Params):
    """Who we are to an iSCSI target."""

    user: str = Field(min_length=1)
    password: str = Field(min_length=1, repr=False)


class DiscoverParams(_Params):
    """`storage.discover`: at a portal, or by ways with wildcards; without both, where the kernel's disks are."""

    portal: str | None = None
    chap: ChapParams | None = None
    initiator: str | None = None
    ways: tuple[str, ...] = ()


class DiskParams(_Params):
    """A disk of the cluster by its name."""

    disk: str


class RehearseParams(_Params):
    """`storage.rehearse`: a way to a disk that is not in the cluster."""

    way: str


class AddDiskParams(_Params):
    """`storage.add`. Without `guest_source`, QEMU opens the device of `reservations`.

    `heartbeat`: for the nodes' stamps, and for no guest.
    `wait`: answer when every node that is up has said how it stands with the disk.
    """

    disk: str = Field(pattern=NAME_PATTERN)
    designator: str = Field(min_length=1)
    reservations: str
    guest_source: str | None = None
    heartbeat: bool = False
    accept_forgetful: bool = False
    clear_keys: bool = False
    protection: Protection = Protection.NODE
    wait: bool = False


class ListParams(_Params):
    """`storage.list`."""


class LoginParams(_Params):
    """`storage.login`: to one target of a portal, or to all. `replacement_timeout_s` None: the usual."""

    portal: str
    target: str | None = None
    chap: ChapParams | None = None
    replacement_timeout_s: int | None = Field(default=None, ge=0, le=600)


class LogoutParams(_Params):
    """`storage.logout`: from a target, through one portal or all."""

    target: str
    portal: str | None = None
