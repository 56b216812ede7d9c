"""Logging in, seen from a portal that listens and never answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.model.errors import InvalidInput
from holdfast.storage.errors import LunUnreachable
from holdfast.storage.iscsi.address import Chap, IscsiAddress
from holdfast.storage.iscsi.discovery import discover
from holdfast.storage.iscsi.session import IscsiSession

INITIATOR = "iqn.2026-11.test:node1"
TARGET = "iqn.2026-11.test:target"


class SilentPortal:
    """Takes connections and keeps what is said. `hangs_up` ends each at once."""

    def __init__(self) -> None:
        self.hangs_up = False
        self.heard: list[bytes] = []
        self.address = ""

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.hangs_up:
            header = await reader.readexactly(48)
            self.heard.append(header + await reader.readexactly(int.from_bytes(header[5:8])))
            await reader.read()
        writer.close()


@pytest.fixture
async def portal() -> AsyncIterator[SilentPortal]:
    portal = SilentPortal()
    server = await asyncio.start_server(portal.listen, "127.0.0.1", 0)
    async with server:
        portal.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield portal


def address(*portals: str, session: int = 0) -> IscsiAddress:
    return IscsiAddress(target=TARGET, portals=portals, initiator=INITIATOR, session=session)


async def test_a_session_has_the_same_name_and_isid_every_time(portal: SilentPortal) -> None:
    """Reservations belong to the nexus, and its name is initiator and ISID."""
    for session in (0, 0, 7):
        with pytest.raises(LunUnreachable, match="no answer within 200 ms"):
            await IscsiSession.connect(address(portal.address, session=session), timeout_ms=200)
    assert all(f"InitiatorName={INITIATOR}\0".encode() in heard for heard in portal.heard)
    assert all(f"TargetName={TARGET}\0".encode() in heard for heard in portal.heard)
    first, second, other = [heard[8:14] for heard in portal.heard]
    assert first == second
    assert first != other
    assert first[1:4] == other[1:4]


async def test_every_portal_is_tried_and_told(portal: SilentPortal) -> None:
    portal.hangs_up = True
    with pytest.raises(LunUnreachable) as caught:
        await IscsiSession.connect(address("127.0.0.1:1", portal.address), timeout_ms=2000)
    assert "127.0.0.1:1:" in caught.value.message
    assert f"{portal.address}:" in caught.value.message


async def test_discovery_ends_in_time(portal: SilentPortal) -> None:
    with pytest.raises(LunUnreachable, match="no answer within 200 ms"):
        await discover(portal.address, initiator=INITIATOR, timeout_ms=200)
    assert b"SessionType=Discovery\0" in portal.heard[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "disk1"},
        {"initiator": "node 1"},
        {"portals": ()},
        {"portals": ("storage.example:3260",)},
        {"portals": ("192.0.2.1",)},
        {"portals": ("192.0.2.1:0",)},
        {"session": -1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_unusable_addresses_are_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"target": TARGET, "portals": ("[2001:db8::1]:3260",), "initiator": INITIATOR}
    IscsiAddress(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        IscsiAddress(**good | wrong)  # type: ignore[arg-type]


def test_secrets_are_not_shown() -> None:
    shown = repr(Chap(user="u", password="hidden1", target_user="t", target_password="hidden2"))
    assert "hidden" not in shown
