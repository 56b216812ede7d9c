"""The network interfaces of this machine, and a call whenever one changes.

Rule of the file: rtnetlink only (it sees this process's network namespace, which /sys may not), events instead of
polling. Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

_NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_IFINFO = struct.Struct("=BxHiII")  # family, hardware type, index, flags, change mask
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_NLM_F_REQUEST_DUMP = 0x301
_IFLA_IFNAME, _IFA_ADDRESS, _IFA_LOCAL = 3, 1, 2
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_GROUPS = 0x1 | 0x10 | 0x100  # links, IPv4 addresses, IPv6 addresses
_BUFFER_BYTES = 1 << 16
_MAX_DRAIN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface: its name, whether it is up with a carrier, and its addresses with prefix (`10.0.0.1/24`)."""

    name: str
    has_carrier: bool
    is_loopback: bool
    addresses: tuple[str, ...]

    def has_address(self, address: str) -> bool:
        """Whether this machine answers for the address on this link. A loopback answers for its whole prefix."""
        wanted = ip_address(address)
        owned = [ip_interface(text) for text in self.addresses]
        return any(own.ip == wanted or (self.is_loopback and wanted in own.network) for own in owned)


def read_links() -> tuple[Link, ...]:
    """All interfaces as they are now.

    Raises:
        OSError: the kernel refused the question.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        links = dict(_parse_link(body) for kind, body in _dump(netlink, _RTM_GETLINK, 16) if kind == _RTM_NEWLINK)
        addresses: dict[int, list[str]] = {index: [] for index in links}
        for kind, body in _dump(netlink, _RTM_GETADDR, 8):
            if kind == _RTM_NEWADDR:
                index, address = _parse_address(body)
                addresses.setdefault(index, []).append(address)
    return tuple(
        Link(
            name=name,
            has_carrier=flags & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP,
            is_loopback=bool(flags & _IFF_LOOPBACK),
            addresses=tuple(addresses[index]),
        )
        for index, (name, flags) in links.items()
    )


def _dump(netlink: socket.socket, question: int, body_size: int) -> Iterator[tuple[int, bytes]]:
    netlink.send(_NLMSG.pack(_NLMSG.size + body_size, question, _NLM_F_REQUEST_DUMP, 1, 0) + bytes(body_size))
    while True:
        for kind, body in _messages(netlink.recv(_BUFFER_BYTES)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "the kernel did not list its network interfaces")
            yield kind, body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _NLMSG.size <= len(data):
        length, kind, _, _, _ = _NLMSG.unpack_from(data, position)
        yield kind, data[position + _NLMSG.size : position + length]
        position += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        found[kind] = data[position + _ATTRIBUTE.size : position + length]
        position += max((length + 3) & ~3, _ATTRIBUTE.size)
    return found


def _parse_link(body: bytes) -> tuple[int, tuple[str, int]]:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    name = _attributes(body[_IFINFO.size :])[_IFLA_IFNAME].rstrip(b"\0").decode()
    return index, (name, flags)


def _parse_address(body: bytes) -> tuple[int, str]:
    _, prefix, _, _, index = _IFADDR.unpack_from(body)
    attributes = _attributes(body[_IFADDR.size :])
    raw = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]  # on a point-to-point link, ADDRESS is the far end
    return index, f"{ip_address(raw)}/{prefix}"


class LinkMonitor:
    """Calls `changed` on the event loop after interfaces or addresses changed, once for a burst of changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._netlink: socket.socket | None = None

    def open(self) -> None:
        """Begin to listen. Needs a running event loop.

        Raises:
            OSError: the kernel has no rtnetlink for us.
        """
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        netlink.bind((0, _GROUPS))
        self._netlink = netlink
        asyncio.get_running_loop().add_reader(netlink.fileno(), self._drain, netlink)

    def _drain(self, netlink: socket.socket) -> None:
        for _ in range(_MAX_DRAIN):
            try:
                netlink.recv(_BUFFER_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some notices were dropped: that something changed is all we need
                    raise
        self._changed()

    def close(self) -> None:
        """Stop listening."""
        if self._netlink is not None:
            asyncio.get_running_loop().remove_reader(self._netlink.fileno())
            self._netlink.close()
            self._netlink = None
