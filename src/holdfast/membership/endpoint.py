"""An address and a port, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where something listens. `address` is an IP address without brackets, or a host name where a person gave one."""

    address: str
    port: int

    def __str__(self) -> str:
        """As people and URLs write it: `10.0.0.1:7405`, `[fd00::1]:7405`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `host:port` or `[ipv6]:port`.

    Raises:
        ValueError: the text is neither, or the port is not 1..65535.
    """
    address, separator, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, as in [fd00::1]:7406")
    if not separator or not address:
        raise ValueError(f"{text!r} is not host:port")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r}: port {port!r} is not a number between 1 and 65535")
    return Endpoint(address=address, port=int(port))
