"""What can go wrong around joining a cluster and speaking in it.

InvalidInput
├── TokenMalformed          the join token cannot be read
├── CertificateInvalid      a certificate, request or key cannot be used
├── IdentityInvalid         a file that says who this node is cannot be used
└── HeartbeatTooLarge       more was to be said than fits a heartbeat
NotFound
└── NotJoined               this machine is not part of a cluster
Refused
└── TokenRefused            the join token is readable and does not let in
    ├── TokenExpired
    ├── TokenUsed
    └── TokenOtherCluster
Unavailable
├── FileNotWritten          nothing was changed on disk
│   └── DiskFull
└── PortTaken               somebody else has the heartbeat's address and port
"""

from __future__ import annotations

from holdfast.model.errors import InvalidInput, NotFound, Refused, Unavailable


class TokenMalformed(InvalidInput):
    """The join token cannot be read; the message says what is wrong with it."""

    code = "token-malformed"


class CertificateInvalid(InvalidInput):
    """A certificate, a request for one, or a private key is not usable; the message names the file or the sender."""

    code = "certificate-invalid"


class IdentityInvalid(InvalidInput):
    """A file that says who this node is (identity, incarnation, cluster key) is damaged; the message names it."""

    code = "identity-invalid"


class HeartbeatTooLarge(InvalidInput):
    """More peers, refusals or longer names than the heartbeat's format can hold."""

    code = "heartbeat-too-large"


class NotJoined(NotFound):
    """This machine is not part of a cluster: it has no identity file."""

    code = "not-joined"


class TokenRefused(Refused):
    """The join token is well formed, but this cluster did not issue it as it stands."""

    code = "token-refused"


class TokenExpired(TokenRefused):
    """The join token was valid, and its time has passed."""

    code = "token-expired"


class TokenUsed(TokenRefused):
    """The join token let in one node already; it is for one only."""

    code = "token-used"


class TokenOtherCluster(TokenRefused):
    """The join token belongs to another cluster."""

    code = "token-other-cluster"


class FileNotWritten(Unavailable):
    """A file could not be written; what was there before is still there."""

    code = "file-not-written"


class DiskFull(FileNotWritten):
    """There is no room for the file; the message says how much is free."""

    code = "disk-full"


class PortTaken(Unavailable):
    """Another process has the address and port that heartbeats are to use."""

    code = "heartbeat-port-taken"
    retryable = False
