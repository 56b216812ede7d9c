"""What can be wrong with bytes from a device."""

from __future__ import annotations

from holdfast.model.errors import HoldfastError


class MalformedReply(HoldfastError):
    """A device sent bytes that do not say what its standard promises, or fewer than it announced.

    Invariant: a list that was cut is never taken for a whole one: a key that is missing from it may be there.
    """

    code = "malformed-reply"
