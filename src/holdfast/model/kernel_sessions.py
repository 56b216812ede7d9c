"""iSCSI sessions of a node's kernel, as the local socket tells of them.

Rule of the file: observed facts; a login that failed is listed with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDisk:
    """A LUN that a session shows to the kernel.

    device      such as ``/dev/sdb``.
    state       the kernel's word; *running* is good.
    wwid        who the LUN is by the kernel's reading of page 83h; empty: the kernel does not tell.
    multipath   the device over all paths to it, such as ``/dev/dm-3``; None: there is none.
    way         how `holdfast storage add --reservations` names it; empty: no name is the same on every node.
    """

    lun: int
    device: str
    state: str
    wwid: str = ""
    multipath: str | None = None
    way: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSession:
    """One session: one target through one portal.

    state                   the kernel's word; *LOGGED_IN* is good, *FAILED* and *FREE* are being mended or given up.
    replacement_timeout_s   how long requests wait for a session that broke before they fail; None: it does not tell.
    """

    id: int
    target: str
    portal: str
    state: str
    initiator: str = ""
    replacement_timeout_s: int | None = None
    disks: tuple[SessionDisk, ...] = ()

    @property
    def is_logged_in(self) -> bool:
        """Whether requests go through now."""
        return self.state == "LOGGED_IN"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionList:
    """The sessions of one node.

    initiator   the node's iSCSI name; it must differ from every other node's, for reservations hang on it.
    warnings    what a person should mend, in words.
    """

    node: str
    initiator: str
    sessions: tuple[KernelSession, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalLogin:
    """How the login to a target through one of its portals ended. `problem`: why not; empty when it is logged in."""

    target: str
    portal: str
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginReport:
    """What was logged in to, and the sessions since."""

    logins: tuple[PortalLogin, ...]
    now: SessionList


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutReport:
    """The portals of a target that are logged out, and return no more after a restart."""

    node: str
    target: str
    portals: tuple[str, ...]
