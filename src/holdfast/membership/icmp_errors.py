"""The kernel's error queue of a UDP socket: which datagram came back, and who said so.

A UDP socket that does not ask for this reports errors without the peer's address, or not at all.
Source: ip(7), IP_RECVERR; linux/errqueue.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.port import Unreachable

_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h; not in Python's socket module
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # errno, origin, type, code, info, data
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_MAX_DRAIN = 64
_ANSWERS = {
    errno.ECONNREFUSED: Unreachable.PORT,
    errno.EHOSTUNREACH: Unreachable.HOST,
    errno.ENETUNREACH: Unreachable.NETWORK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpError:
    """An answer of the network to a datagram that this socket sent to `peer`."""

    peer: Endpoint
    answer: Unreachable
    reported_by: str


def ask_for_errors(udp: socket.socket) -> None:
    """Have the kernel queue ICMP errors on this socket."""
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def take_errors(udp: socket.socket) -> Iterator[IcmpError]:
    """Take what is queued. Also clears the pending error, which would else fail the next send to somebody else."""
    for _ in range(_MAX_DRAIN):
        try:
            _, ancillary, _, address = udp.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return
        for level, kind, data in ancillary:
            if (level, kind) in {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}:
                code, origin, _, _, _, _ = _EXTENDED_ERROR.unpack_from(data)
                answer = _ANSWERS.get(code)
                if origin in {_ORIGIN_ICMP, _ORIGIN_ICMP6} and answer is not None:
                    peer = Endpoint(address=address[0], port=address[1])
                    reported_by = _offender(data[_EXTENDED_ERROR.size :])
                    yield IcmpError(peer=peer, answer=answer, reported_by=reported_by)


def _offender(sockaddr: bytes) -> str:
    (family,) = struct.unpack_from("=H", sockaddr)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
    return ""
