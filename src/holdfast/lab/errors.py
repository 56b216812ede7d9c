"""The errors of the lab.

HoldfastError
├── InvalidInput   └── BadLabName          a name that cannot become a namespace, a folder and a socket
├── NotFound       └── NoSuchNode          the lab has no node of that name
├── Conflict       ├── LabNameTaken        a lab of that name runs already, with its state elsewhere
│                  └── NodeIsOff           the node has no power, so nothing can be done inside it
├── Unavailable    ├── LabNotRunning       the datacenter's process does not answer
│                  └── LabBroken           a step of building the lab failed; carries the tool's own words
└── OutcomeUnknown └── NodeSilent          the node's init did not answer in time (frozen, or overloaded)
"""

from __future__ import annotations

from holdfast.model.errors import (
    Conflict,
    HoldfastError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)


class BadLabName(InvalidInput):
    """The name cannot be used for a lab or a guest."""

    code = "lab-bad-name"


class NoSuchNode(NotFound):
    """The lab has no node of that name."""

    code = "lab-no-such-node"


class LabNameTaken(Conflict):
    """Another datacenter on this machine uses the name."""

    code = "lab-name-taken"


class NodeIsOff(Conflict):
    """The node is without power."""

    code = "lab-node-off"


class LabNotRunning(Unavailable):
    """No datacenter answers under this name."""

    code = "lab-not-running"


class LabBroken(Unavailable):
    """A tool that builds the lab failed; the message carries its output."""

    code = "lab-broken"


class NodeSilent(OutcomeUnknown):
    """The node's init did not answer in time: frozen, or the machine is overloaded."""

    code = "lab-node-silent"


ERRORS_BY_CODE: dict[str, type[HoldfastError]] = {
    error.code: error
    for error in (BadLabName, NoSuchNode, LabNameTaken, NodeIsOff, LabNotRunning, LabBroken, NodeSilent)
}
