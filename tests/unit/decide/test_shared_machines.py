"""Which witnesses are warned of because they would fail together with a host."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.decide.made_up import cluster, incarnation, known, put

from holdfast.decide.shared_machines import shared_machines
from holdfast.model.ids import NodeName
from holdfast.model.nodes import Capacity, GuestObservation, NodeReport

GUEST = "5b0a6c52-1111-4222-8333-444455556666"


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
        ({"machine_id": "m", "product_uuid": "u"}, {"machine_id": "n", "product_uuid": "v"}, []),
        ({}, {}, []),
    ],
)
def test_a_witness_that_goes_down_with_a_host_is_named(
    witness: dict[str, Any], host: dict[str, Any], expected: list[str]
) -> None:
    assert texts(witness, host) == expected
