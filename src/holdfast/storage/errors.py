"""What can go wrong before a logical unit takes commands.

HoldfastError
├── Unavailable
│   └── LunUnreachable        it cannot be reached now by any of its ways
└── InvalidInput
    └── InitiatorMissing      this host lacks the software that its kind of disk needs
"""

from __future__ import annotations

from holdfast.model.errors import InvalidInput, Unavailable


class LunUnreachable(Unavailable):
    """No way to the logical unit works now; nothing was sent to it."""

    code = "lun-unreachable"


class InitiatorMissing(InvalidInput):
    """The software for this kind of disk is not installed; the hint names the package."""

    code = "initiator-missing"
