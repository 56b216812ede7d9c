"""Everything outside that the life of a node depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast.fencing.port import Guard
from holdfast.hypervisor.port import Hypervisor
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.membership.port import HeartbeatTransport
from holdfast.membership.replay import Sequences
from holdfast.model.ids import Incarnation
from holdfast.model.nodes import MemoryTarget
from holdfast.node.clock import Clock
from holdfast.node.detector import OnSilent
from holdfast.node.disks import OpenLun
from holdfast.node.power import DeviceOf
from holdfast.node.saved_memory import LEFT_OVER_KEPT_S
from holdfast.store.port import Store, StoreAdmin


class Incarnations(Protocol):
    """Where the incarnation of this start of the machine is kept."""

    def load_or_create(self) -> Incarnation:
        """This start's incarnation, the same for every daemon until the machine starts again."""

    def replace(self) -> Incarnation:
        """Become another one: only when nothing of the present one runs any more. Source: SAFE-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside that a node's life depends on; each has a real and a simulated side."""

    store: Store
    hypervisor: Hypervisor
    guard: Guard
    transport: HeartbeatTransport
    codec: HeartbeatCodec
    sequences: Sequences
    incarnations: Incarnations
    device_of: DeviceOf
    open_lun: OpenLun
    clock: Clock
    admin: StoreAdmin | None = None
    """Who votes in the database; None: that is somebody else's business."""
    on_silent: OnSilent = lambda _: None
    memory_target: Callable[[], MemoryTarget | None] = lambda: None
    """Where others send the memory of running guests, but for the CPU; None: this node takes none in."""
    left_over_kept_s: float = LEFT_OVER_KEPT_S
    """How long files of saved memory are kept that nothing will start from."""
