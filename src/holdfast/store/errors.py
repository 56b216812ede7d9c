"""What can go wrong between a node and the cluster database.

Unavailable
├── StoreUnavailable            nothing was done; safe to try again
│   └── StoreFull               the database has reached its size limit and refuses writes
├── OutcomeUnknown
│   └── StoreOutcomeUnknown     a write was sent and no answer came
└── MemberNotRunning            this node's member of the database does not run, for one of these reasons:
    ├── EtcdMissing             etcd is not installed
    ├── AddressTaken            another process listens where it should
    ├── AddressAbsent           this machine does not have the address
    ├── DataUnwritable          its data directory cannot be written
    ├── DiskFull                there is too little room for its data
    └── MemberExited            it started and ended by itself
NotFound
├── LeaseNotFound               the lease ran out or was revoked
└── MemberNotFound              no such member of the database cluster
Conflict
└── Compacted                   the wanted history is gone: list again
Refused
└── MemberChangeRefused         the database will not change its membership now
"""

from __future__ import annotations

from holdfast.model.errors import Conflict, NotFound, OutcomeUnknown, Refused, Unavailable


class StoreUnavailable(Unavailable):
    """No member of the database took the request: it was certainly not done."""

    code = "store-unavailable"


class StoreFull(StoreUnavailable):
    """The database has reached its size limit; it was certainly not done, and waiting does not help."""

    code = "store-full"
    retryable = False


class StoreOutcomeUnknown(OutcomeUnknown):
    """A write was sent and no answer came: it may be applied already, later, or never.

    Repeat it only when it is guarded by a compare that its own effect makes false. Source: SAFE-4.
    """

    code = "store-outcome-unknown"


class MemberNotRunning(Unavailable):
    """This node's member of the database does not run; the subclass says why."""

    code = "database-member-not-running"


class EtcdMissing(MemberNotRunning):
    """The program is not installed."""

    code = "etcd-missing"


class AddressTaken(MemberNotRunning):
    """Another process listens where the member should; the message names the address."""

    code = "database-address-taken"


class AddressAbsent(MemberNotRunning):
    """No interface of this machine has the address that the member should listen at."""

    code = "database-address-absent"


class DataUnwritable(MemberNotRunning):
    """The data directory cannot be made or written."""

    code = "database-data-unwritable"


class DiskFull(MemberNotRunning):
    """The file system of the data directory has too little room for the member to start."""

    code = "database-disk-full"


class DataLost(MemberNotRunning):
    """The member has run before and its data is gone; it must never start again without it. Source: SAFE-4."""

    code = "database-data-lost"


class MemberExited(MemberNotRunning):
    """The member started and ended by itself; the message carries the last line of its log."""

    code = "database-member-exited"


class LeaseNotFound(NotFound):
    """The lease ran out or was revoked, and the keys that hung on it are gone."""

    code = "lease-not-found"


class MemberNotFound(NotFound):
    """The database cluster has no member with this id."""

    code = "member-not-found"


class MemberChangeRefused(Refused):
    """The database will not change its membership now, because it could lose its majority by it."""

    code = "member-change-refused"
    retryable = True


class Compacted(Conflict):
    """The wanted history was compacted away: list again and watch from there.

    ``revision`` is the oldest revision that can still be watched from.
    """

    code = "store-compacted"

    def __init__(self, revision: int) -> None:
        super().__init__(
            f"history before revision {revision} of the cluster database is gone",
            hint="read everything again and follow from that revision",
        )
        self.revision = revision
