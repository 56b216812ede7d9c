"""The errors of fencing.

HoldfastError
├── InvalidInput
│   └── FenceDeviceInvalid   a fence device cannot be used as it was configured
└── Unavailable
    └── GuardUnavailable     holdfast-guard does not answer: nothing may be started on this node
"""

from __future__ import annotations

from holdfast.model.errors import InvalidInput, Unavailable


class FenceDeviceInvalid(InvalidInput):
    """The configuration of a fence device cannot be given to its agent."""

    code = "fence-device-invalid"


class GuardUnavailable(Unavailable):
    """The guard did not answer in time, or could not do what was asked. Invariant: the caller starts no guest."""

    code = "guard-unavailable"
