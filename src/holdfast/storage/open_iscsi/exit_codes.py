"""What an exit code of iscsiadm means to a person.

Rule of the file: the code is judged, never the words beside it, for these change between versions.
Source: iscsiadm(8), EXIT STATUS; open-iscsi, ``include/iscsi_err.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from holdfast.model.errors import HoldfastError, NotFound
from holdfast.storage.errors import InitiatorFailed, InitiatorMissing, LoginRefused, LunUnreachable


class ExitCode(IntEnum):
    """The exit codes, by the manual's names without ``ISCSI_ERR_``."""

    SUCCESS = 0
    GENERIC = 1
    SESS_NOT_FOUND = 2
    NOMEM = 3
    TRANS = 4
    LOGIN = 5
    IDBM = 6
    INVAL = 7
    TRANS_TIMEOUT = 8
    INTERNAL = 9
    LOGOUT = 10
    PDU_TIMEOUT = 11
    TRANS_NOT_FOUND = 12
    ACCESS = 13
    TRANS_CAPS = 14
    SESS_EXISTS = 15
    INVALID_MGMT_REQ = 16
    ISNS_UNAVAILABLE = 17
    ISCSID_COMM_ERR = 18
    FATAL_LOGIN = 19
    ISCSID_NOTCONN = 20
    NO_OBJS_FOUND = 21
    SYSFS_LOOKUP = 22
    HOST_NOT_FOUND = 23
    LOGIN_AUTH_FAILED = 24
    ISNS_QUERY = 25
    ISNS_REG_FAILED = 26
    OP_NOT_SUPP = 27
    BUSY = 28
    AGAIN = 29
    UNKNOWN_DISCOVERY_TYPE = 30
    CHILD_TERMINATED = 31
    SESSION_NOT_CONNECTED = 32
    REQ_TIMEDOUT = 33


_REACH: Final = "is the target up, and does this node reach the portal? Try: holdfast storage discover --portal PORTAL"
_DAEMON: Final = "start open-iscsi's daemon: systemctl enable --now iscsid.socket (Debian: iscsid.service)"
_LET_IN: Final = (
    "check the target's access list against this node's name (holdfast storage sessions), user and password"
)
_LATER: Final = "look at what iscsid logs (journalctl -u iscsid), then try again"
_VERSION: Final = "this open-iscsi does not understand the request; 2.0.873 or newer is needed"
_MODULE: Final = (
    "load it: modprobe iscsi_tcp. A kernel without it reaches targets in user space only; see docs/storage.md"
)
_ROOT: Final = "holdfastd must run as root, and /etc/iscsi (or /var/lib/iscsi) must be writable"

_MEANINGS: Final[Mapping[ExitCode, tuple[type[HoldfastError], str, str]]] = {
    ExitCode.GENERIC: (InitiatorFailed, "open-iscsi failed and says no more", _LATER),
    ExitCode.SESS_NOT_FOUND: (NotFound, "there is no such session", "holdfast storage sessions shows them"),
    ExitCode.NOMEM: (InitiatorFailed, "open-iscsi has not enough memory", _LATER),
    ExitCode.TRANS: (LunUnreachable, "the portal cannot be reached", _REACH),
    ExitCode.LOGIN: (LoginRefused, "the target refused the login", _LET_IN),
    ExitCode.IDBM: (InitiatorFailed, "open-iscsi cannot read or write its records", _ROOT),
    ExitCode.INVAL: (InitiatorFailed, "open-iscsi refuses an argument", _VERSION),
    ExitCode.TRANS_TIMEOUT: (LunUnreachable, "the portal did not answer in time", _REACH),
    ExitCode.INTERNAL: (InitiatorFailed, "iscsid or the kernel failed", _LATER),
    ExitCode.LOGOUT: (InitiatorFailed, "the session did not end", "is a disk of it still in use? Then end that first"),
    ExitCode.PDU_TIMEOUT: (LunUnreachable, "the target did not answer in time", _REACH),
    ExitCode.TRANS_NOT_FOUND: (InitiatorMissing, "the kernel's module iscsi_tcp is not loaded", _MODULE),
    ExitCode.ACCESS: (InitiatorFailed, "open-iscsi is not permitted to do that", _ROOT),
    ExitCode.TRANS_CAPS: (InitiatorFailed, "the kernel's transport cannot do that", _VERSION),
    ExitCode.SESS_EXISTS: (InitiatorFailed, "there is such a session already", "holdfast storage sessions shows them"),
    ExitCode.INVALID_MGMT_REQ: (InitiatorFailed, "iscsid does not know the request", _VERSION),
    ExitCode.ISCSID_COMM_ERR: (InitiatorFailed, "iscsid broke off the conversation", _LATER),
    ExitCode.FATAL_LOGIN: (LoginRefused, "the target refused the login for good", _LET_IN),
    ExitCode.ISCSID_NOTCONN: (InitiatorFailed, "iscsid does not run", _DAEMON),
    ExitCode.NO_OBJS_FOUND: (NotFound, "open-iscsi knows no such session or target", "holdfast storage sessions"),
    ExitCode.SYSFS_LOOKUP: (InitiatorFailed, "the session vanished from the kernel", "holdfast storage sessions"),
    ExitCode.HOST_NOT_FOUND: (LunUnreachable, "the kernel has no host adapter for it", _LATER),
    ExitCode.LOGIN_AUTH_FAILED: (LoginRefused, "the target did not accept name, user or password", _LET_IN),
    ExitCode.OP_NOT_SUPP: (InitiatorFailed, "open-iscsi does not support that", _VERSION),
    ExitCode.BUSY: (InitiatorFailed, "a disk of the session is in use", "end what uses it, then try again"),
    ExitCode.AGAIN: (InitiatorFailed, "it failed for now", "try again"),
    ExitCode.CHILD_TERMINATED: (InitiatorFailed, "a process of open-iscsi was ended", _LATER),
    ExitCode.SESSION_NOT_CONNECTED: (LunUnreachable, "the session is not connected", _REACH),
    ExitCode.REQ_TIMEDOUT: (LunUnreachable, "iscsid did not answer in time", _LATER),
}
"""All but those of iSNS and of discovery by open-iscsi, which are never asked for."""


def error_of(code: int, *, about: str, output: str = "") -> HoldfastError:
    """Return what an exit code other than success is to a person. `output`: its words, for unknown codes."""
    known = _MEANINGS.get(ExitCode(code)) if code in set(ExitCode) else None
    if known is None:
        words = " ".join(output.split())[-200:] or "no words"
        return InitiatorFailed(f"{about}: iscsiadm ended with {code}: {words}", hint=_LATER)
    kind, words, hint = known
    return kind(f"{about}: {words} (iscsiadm ended with {code})", hint=hint)
