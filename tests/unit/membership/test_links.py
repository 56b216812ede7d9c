"""The machine's interfaces are seen as they are."""

from __future__ import annotations

from holdfast.membership.links import Link, read_links


def test_the_loopback_is_found_and_answers_for_its_whole_prefix() -> None:
    (loopback,) = [link for link in read_links() if link.is_loopback]
    assert loopback.name == "lo"
    assert loopback.has_carrier
    assert loopback.has_address("127.0.0.1")
    assert loopback.has_address("127.9.8.7")
    assert not loopback.has_address("10.0.0.1")


def test_an_ordinary_interface_answers_for_its_own_address_only() -> None:
    link = Link(name="eth0", has_carrier=True, is_loopback=False, addresses=("10.0.0.1/24", "fd00::1/64"))
    assert link.has_address("10.0.0.1")
    assert link.has_address("fd00:0::1")
    assert not link.has_address("10.0.0.2")
