"""What can go wrong before a logical unit takes commands.

HoldfastError
├── Unavailable
│   ├── LunUnreachable        it cannot be reached now by any of its ways
│   └── InitiatorFailed       open-iscsi did not do what it was asked
└── InvalidInput
    ├── InitiatorMissing      this host lacks the software that its kind of disk needs
    └── LoginRefused          the target does not let this node in
"""

from __future__ import annotations

from holdfast.model.errors import InvalidInput, Unavailable


class LunUnreachable(Unavailable):
    """No way to the logical unit works now; nothing was sent to it."""

    code = "lun-unreachable"


class InitiatorFailed(Unavailable):
    """open-iscsi ended with an error; the message has its exit code and words."""

    code = "initiator-failed"


class InitiatorMissing(InvalidInput):
    """The software for this kind of disk is not installed; the hint names the package."""

    code = "initiator-missing"


class LoginRefused(InvalidInput):
    """The target refuses this node: by its name, or by user and password."""

    code = "login-refused"
