"""What a node sends: datagrams, which are its heartbeats, and all bytes on the networks of the cluster.

Source: proc(5), /proc/PID/net/dev and /proc/PID/net/snmp.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.layout import CLUSTER_NETWORKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Since the node was powered on."""

    datagrams: int
    cluster_bytes: int


def sent(init_pid: int) -> Sent:
    """Return what a node has sent so far; `init_pid` is the node's init."""
    counters = Path(f"/proc/{init_pid}/net")
    names, values = (line.split() for line in (counters / "snmp").read_text().splitlines() if line.startswith("Udp:"))
    interfaces = dict(line.strip().split(":", 1) for line in (counters / "dev").read_text().splitlines()[2:])
    return Sent(
        datagrams=int(values[names.index("OutDatagrams")]),
        cluster_bytes=sum(int(interfaces[network].split()[8]) for network in CLUSTER_NETWORKS),
    )
