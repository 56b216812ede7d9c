"""The cables and switches: one bridge per network in the lab's own namespace, one veth per node and network.

Rule of the file: a cable is cut on the switch side, by one ioctl on a socket that was opened in the switch's
namespace: no program to start, so a power cut is silent within the same millisecond. Source: netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from pathlib import Path

from holdfast.lab.layout import (
    MAX_GUESTS,
    SWITCH_HOST,
    Layout,
    Network,
    NodeLayout,
    guest_address,
    guest_mac,
    node_address,
    node_mac,
)
from holdfast.lab.namespaces import NETNS_FOLDER, inside
from holdfast.lab.tools import run_tool

GUEST_BRIDGE = "vmbr0"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class Switch:
    """The networks of one lab."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._control: socket.socket | None = None
        self._cut: dict[str, set[Network]] = {}

    async def create(self) -> None:
        """Make the namespace and its bridges; the vm network gets an address for the person who looks."""
        namespace = self._layout.switch_namespace
        await run_tool("ip", "netns", "add", namespace)
        _disable_ipv6(namespace)
        lines = ["link set lo up"]
        for network in Network:
            lines += [f"link add {network} type bridge stp_state 0 mcast_snooping 0", f"link set {network} up"]
        lines.append(f"addr add {node_address(Network.VM, SWITCH_HOST)}/24 dev {Network.VM}")
        for index in range(
            1, MAX_GUESTS + 1
        ):  # known neighbours: asking a guest never waits for ARP's one-second retry
            lines.append(f"neigh add {guest_address(index)} lladdr {guest_mac(index)} nud permanent dev {Network.VM}")
        await _ip(namespace, lines)
        with inside(namespace):
            self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def connect(self, node: NodeLayout) -> None:
        """Give a node its network namespace and its cables; those that were cut stay cut."""
        await run_tool("ip", "netns", "add", node.namespace)
        _disable_ipv6(node.namespace)
        inner = ["link set lo up"]
        if Network.VM in node.networks:
            own_mac = node_mac(Network.VM, node.number)
            inner.append(f"link add {GUEST_BRIDGE} address {own_mac} type bridge stp_state 0 mcast_snooping 0")
        outer = []
        for network in node.networks:
            port = node.port(network)
            mac = node_mac(network, node.number)
            outer.append(f"link add {port} type veth peer name {network} address {mac} netns {node.namespace}")
            outer.append(f"link set {port} master {network}")
            if network not in self._cut.get(node.name, ()):
                outer.append(f"link set {port} up")
            holder = GUEST_BRIDGE if network is Network.VM else network
            if network is Network.VM:
                inner += [f"link set {network} master {GUEST_BRIDGE}", f"link set {GUEST_BRIDGE} up"]
            inner += [f"addr add {node_address(network, node.number)}/24 dev {holder}", f"link set {network} up"]
        await _ip(self._layout.switch_namespace, outer)
        await _ip(node.namespace, inner)

    async def disconnect(self, node: NodeLayout) -> None:
        """Take a dead node's cables and namespace away, so that nothing queued in it can ever be sent."""
        lines = [f"link del {node.port(network)}" for network in node.networks]
        await _ip(self._layout.switch_namespace, lines, force=True)
        if (NETNS_FOLDER / node.namespace).exists():
            await run_tool("ip", "netns", "del", node.namespace)

    def silence(self, node: NodeLayout) -> None:
        """Take all cables of a node down at once, without remembering a cut (for a power cut)."""
        for network in node.networks:
            self._set_up(node.port(network), up=False)

    def cut(self, node: NodeLayout, networks: list[Network]) -> None:
        """Cut a node off these networks, now and after a reboot, until ``heal``."""
        present = [network for network in networks if network in node.networks]
        self._cut.setdefault(node.name, set()).update(present)
        for network in present:
            self._set_up(node.port(network), up=False)

    def heal(self, node: NodeLayout, networks: list[Network]) -> None:
        """Mend the cables of a node to these networks."""
        self._cut.setdefault(node.name, set()).difference_update(networks)
        for network in networks:
            self._set_up(node.port(network), up=True)

    def cuts(self, node: NodeLayout) -> list[Network]:
        """Return the networks that the node is cut off."""
        return sorted(self._cut.get(node.name, ()))

    def _set_up(self, port: str, *, up: bool) -> None:
        assert self._control is not None, "the switch was not created"
        name = port.encode().ljust(16, b"\0")
        try:
            (flags,) = struct.unpack_from("H", fcntl.ioctl(self._control, _SIOCGIFFLAGS, name + bytes(24)), 16)
            flags = flags | _IFF_UP if up else flags & ~_IFF_UP
            fcntl.ioctl(self._control, _SIOCSIFFLAGS, name + struct.pack("H22x", flags))
        except OSError as error:
            if error.errno != errno.ENODEV:  # a node that is off has no cables
                raise


def _disable_ipv6(namespace: str) -> None:
    with inside(namespace):
        for scope in ("all", "default"):
            setting = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if setting.exists():
                setting.write_text("1")


async def _ip(namespace: str, lines: list[str], *, force: bool = False) -> None:
    options = ["-force"] if force else []
    command = ["ip", "-n", namespace, *options, "-batch", "-"]
    if force:
        command = ["sh", "-c", '"$@" >/dev/null 2>&1 || true', "sh", *command]
    await run_tool(*command, stdin="\n".join(lines) + "\n")
