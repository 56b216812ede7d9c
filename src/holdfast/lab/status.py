"""What a lab reports of itself.

Rule of the file: plain values, built from the datacenter's answer and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.lab.fence_device import FenceFault
from holdfast.lab.layout import Network
from holdfast.lab.machine import Power


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service of a node."""

    name: str
    state: str
    """running, waiting (to be restarted), stopped, or missing (no such program)."""
    pid: int
    """Inside the node; 0 when it does not run."""
    starts: int
    last_exit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node."""

    name: str
    power: Power
    off_reason: str
    init_pid: int
    """Of the machine's PID namespace; 0 when the node is off."""
    init_started: int
    services: tuple[ServiceStatus, ...] | None
    """None when the node is off or does not answer."""
    cut: tuple[Network, ...]
    fence_fault: FenceFault | None
    """None when the lab has no fence devices."""
    watchdog_is_armed: bool
    watchdog_remaining_s: float | None

    def service(self, name: str) -> ServiceStatus | None:
        """Return a service by its name; None when it is not known."""
        return next((one for one in self.services or () if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabStatus:
    """The whole lab."""

    name: str
    pid: int
    nodes: tuple[NodeStatus, ...]

    def node(self, name: str) -> NodeStatus:
        """Return a node by its name. Raises: StopIteration when the lab has none of that name."""
        return next(node for node in self.nodes if node.name == name)


def read_status(answer: dict[str, Any]) -> LabStatus:
    """Return the status that the datacenter's answer describes."""
    return LabStatus(name=answer["name"], pid=answer["pid"], nodes=tuple(_node(one) for one in answer["nodes"]))


def _node(told: dict[str, Any]) -> NodeStatus:
    watchdog = told["watchdog"] or {"is_armed": False, "remaining_s": None}
    services = told["services"]
    return NodeStatus(
        name=told["name"],
        power=Power(told["power"]),
        off_reason=told["off_reason"],
        init_pid=told["init_pid"],
        init_started=told["init_started"],
        services=None if services is None else tuple(ServiceStatus(**one) for one in services),
        cut=tuple(Network(name) for name in told["cut"]),
        fence_fault=None if told["fence_fault"] is None else FenceFault(told["fence_fault"]),
        watchdog_is_armed=watchdog["is_armed"],
        watchdog_remaining_s=watchdog["remaining_s"],
    )
