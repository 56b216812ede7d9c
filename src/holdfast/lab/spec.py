"""What a lab is made of: nodes, services, devices.

Rule of the file: plain values, written once by ``up`` to ``lab.json`` and only read by the datacenter.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.lab.errors import BadLabName, LabNotRunning
from holdfast.lab.layout import MAX_NODES, STORAGE_NODE, WITNESS, node_name
from holdfast.lab.luns import StorageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that the node's init starts at boot and restarts when it ends.

    Only the process itself is stopped or restarted; its children live on (KillMode=process).
    """

    name: str
    command: tuple[str, ...]
    nice: int = 0
    restart_delay_ms: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """The lab as a person asked for it."""

    nodes: int
    services: tuple[Service, ...]
    has_fence: bool = True
    has_watchdog: bool = True
    watchdog_timeout_s: float = 3.0
    has_kvm: bool = False
    storage: StorageSpec | None = None
    """None for a lab without a storage node."""
    has_witness: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise BadLabName(f"a lab of {self.nodes} nodes cannot be built", hint=f"choose 1 to {MAX_NODES}")

    @property
    def node_names(self) -> list[str]:
        """The names of all hosts that a cluster may have."""
        return [node_name(number) for number in range(1, self.nodes + 1)]

    @property
    def machine_names(self) -> list[str]:
        """The names of all machines: the storage node, if there is one, the nodes, and the witness, if there is one."""
        storage = [STORAGE_NODE] if self.storage is not None else []
        return [*storage, *self.node_names, *([WITNESS] if self.has_witness else [])]

    def to_json(self) -> str:
        """Return the text for ``lab.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> LabSpec:
        """Return what ``to_json`` wrote."""
        values: dict[str, Any] = json.loads(text)
        services = tuple(Service(**{**one, "command": tuple(one["command"])}) for one in values.pop("services"))
        storage = values.pop("storage")
        return cls(**values, services=services, storage=None if storage is None else StorageSpec(**storage))

    @classmethod
    def read(cls, path: Path) -> LabSpec:
        """Return the specification of a lab that was built. Raises: LabNotRunning."""
        try:
            return cls.from_json(path.read_text())
        except FileNotFoundError as error:
            raise LabNotRunning(f"there is no {path}", hint="bring the lab up with `holdfast lab up`") from error


LIBVIRTD = Service(name="libvirtd", command=("/usr/sbin/libvirtd", "--listen"), nice=5)
