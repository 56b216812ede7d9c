"""Which witnesses are warned of because they would fail together with a host."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import cluster, incarnation, known, put, role, up

from holdfast.decide.shared_machines import shared_machines
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity, GuestObservation, NodeReport

GUEST = "5b0a6c52-1111-4222-8333-444455556666"
TURNED = "526c0a5b-1111-2242-8333-444455556666"
"""The same as firmware tells it that has the other order of bytes."""


def texts(witness: dict[str, Any], host: dict[str, Any]) -> list[str]:
    runs = NodeReport(
        node=NodeName("b"),
        incarnation=incarnation("b"),
        capacity=Capacity(memory_bytes=0, vcpus=0),
        hears={},
        guests={GUEST: GuestObservation.RUNNING},
    )
    parts = (known("a", **host), known("b", machine_id="m-b", product_uuid="u-b"), put("reports", "b", runs))
    snapshot = cluster(*parts, known("w", is_witness=True, **witness))
    return [condition.text.partition(":")[0] for condition in shared_machines(snapshot)]


@pytest.mark.parametrize(
    ("witness", "host", "expected"),
    [
        ({"machine_id": "m"}, {"machine_id": "m"}, ["witness w is on the machine of host a (both have machine-id m)"]),
        (
            {"product_uuid": "u"},
            {"product_uuid": "u"},
            ["witness w is on the machine of host a (both have product UUID u)"],
        ),
        ({"product_uuid": GUEST}, {}, [f"witness w is a guest on host b (its UUID is {GUEST})"]),
        ({"product_uuid": TURNED}, {}, [f"witness w is a guest on host b (its UUID is {TURNED})"]),
        ({"machine_id": "m", "product_uuid": "u"}, {"machine_id": "n", "product_uuid": "v"}, []),
        ({}, {}, []),
    ],
)
def test_a_witness_that_goes_down_with_a_host_is_named(
    witness: dict[str, Any], host: dict[str, Any], expected: list[str]
) -> None:
    assert texts(witness, host) == expected


@pytest.mark.parametrize("told", [GUEST, TURNED])
@pytest.mark.parametrize("owner", ["a", None])
def test_a_witness_that_is_a_guest_of_the_cluster_is_named_wherever_it_runs(told: str, owner: str | None) -> None:
    """Once, and not as a guest of its host as well, on which it may not be tomorrow."""
    runs = {GUEST: GuestObservation.RUNNING} if owner else {}
    roles = (role("attic", owner=owner, uuid=GUEST.upper()), role("web", owner="a"))
    parts = (up("a", guests=runs), *roles, known("w", is_witness=True, product_uuid=told))
    (found,) = shared_machines(cluster(*parts))
    assert (found.code, found.subject) == ("witness-is-guest", "w")
    assert found.text.startswith(f"witness w is the guest attic of the cluster that it judges (its UUID is {told})")


def test_a_witness_that_is_a_guest_elsewhere_is_not_warned_of() -> None:
    roles = (role("attic", owner="a", uuid=GUEST), known("a", product_uuid=TURNED))
    assert shared_machines(cluster(*roles, known("w", is_witness=True))) == ()
    assert shared_machines(cluster(*roles, known("w", is_witness=True, product_uuid=GUEST.replace("5", "6")))) == ()
