"""What can go wrong between Holdfast and the hypervisor.

Rule of the file: the class says what is *certain*. Failed = certainly not done; unavailable = not even sent;
unknown = sent, no answer, may still happen. Only the first two may be acted on as "not running".

    HoldfastError
    ├── GuestStartFailed          the hypervisor refused; the guest certainly does not run
    └── GuestRequestFailed        the hypervisor could not do this to a running guest
    Conflict
    └── GuestAlreadyRunning       it runs on this node already: adopt it
    NotFound
    └── GuestNotFound             no such guest on this node
    Unavailable
    ├── HypervisorUnavailable     the hypervisor cannot be asked now; nothing was done
    └── OutcomeUnknown
        └── GuestOutcomeUnknown   asked, and no answer in time: it may run, or may start later
"""

from __future__ import annotations

from holdfast.model.errors import Conflict, HoldfastError, NotFound, OutcomeUnknown, Unavailable


class GuestStartFailed(HoldfastError):
    """The hypervisor refused or failed to start the guest; it certainly does not run on this node."""

    code = "guest-start-failed"
    retryable = True


class GuestAlreadyRunning(Conflict):
    """A guest with this uuid runs on this node already; a caller that wanted it to run is content."""

    code = "guest-already-running"


class GuestNotFound(NotFound):
    """The hypervisor of this node knows no running guest with this uuid."""

    code = "guest-not-found"


class GuestRequestFailed(HoldfastError):
    """The hypervisor answered that it could not do this to a running guest; the guest is as it was."""

    code = "guest-request-failed"
    retryable = True


class HypervisorUnavailable(Unavailable):
    """The hypervisor cannot be asked now (not installed, not running, not answering); nothing was done."""

    code = "hypervisor-unavailable"


class GuestOutcomeUnknown(OutcomeUnknown):
    """The hypervisor was asked and has not answered: the guest may run, or start running later.

    Invariant: settle it (list, or destroy until that returns) before the role goes anywhere. Source: SAFE-2.
    """

    code = "guest-outcome-unknown"
