"""Where an iSCSI target is, who we are to it, and how we prove that. Source: RFC 7143."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field

from holdfast.model.errors import InvalidInput

_NAME = re.compile(r"(iqn\.[0-9]{4}-[0-9]{2}\.|eui\.|naa\.)[^\s,]{1,200}")
_PORTAL = re.compile(r"\[?([0-9A-Fa-f.:]+?)\]?:([0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chap:
    """Names and secrets of CHAP. The target's own are only for mutual authentication."""

    user: str
    password: str = field(repr=False)
    target_user: str = ""
    target_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IscsiAddress:
    """One target as one initiator session sees it. Raises InvalidInput.

    portals      ``ADDRESS:PORT``, ``[ADDRESS]:PORT`` for IPv6; tried in turn. No host names: asking a name server could
                 hang when it matters most.
    initiator    this node's name; one per node, for ever: reservations hang on it.
    session      tells sessions of one node apart. A second one with the same number takes the first one's place, and is
                 the same nexus to a target that follows the standard.
    """

    target: str
    portals: tuple[str, ...]
    initiator: str
    session: int = 0
    chap: Chap | None = None

    def __post_init__(self) -> None:
        for name in (self.target, self.initiator):
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"{name!r} is no iSCSI name", hint="such names begin with iqn., eui. or naa.")
        if not self.portals:
            raise InvalidInput(f"no portal of {self.target} is given", hint="give one as ADDRESS:PORT")
        for portal in self.portals:
            check_portal(portal)
        if not 0 <= self.session <= 0xFFFF:
            raise InvalidInput(f"session {self.session} is not between 0 and 65535")

    @property
    def isid_seed(self) -> int:
        """24 bits that are the same for this initiator at every start, for the session's ISID."""
        return int.from_bytes(hashlib.sha256(self.initiator.encode()).digest()[:3])


def check_portal(portal: str) -> None:
    """Raise InvalidInput unless it is a literal address with a port."""
    found = _PORTAL.fullmatch(portal)
    try:
        if found is None or not 0 < int(found[2]) < 65536:
            raise ValueError(portal)
        ipaddress.ip_address(found[1])
    except ValueError as error:
        raise InvalidInput(f"{portal!r} is no portal", hint="give ADDRESS:PORT, such as 192.0.2.1:3260") from error
