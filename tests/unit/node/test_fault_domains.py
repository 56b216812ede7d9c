"""What a node depends on: set by people, brought along by a witness, and kept with its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.decide.made_up import cluster, known, node_spec
from tests.unit.node.test_enrolment import request
from tests.unit.node.test_join_port import HOUR_MS, SOURCE, join_port

from holdfast.membership.certificates import create_request
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import NodeName
from holdfast.model.nodes import NodeSpec
from holdfast.node.record_changes import changed_node
from holdfast.node.request_params import NodeSetParams
from holdfast.node.residence import is_virtual_machine
from holdfast.store.records import decode, encode, node_key

A = NodeName("a")


def changed(*before: str, **wanted: object) -> NodeSpec:
    params = NodeSetParams.model_validate({"node": "a", **wanted})
    return changed_node(node_spec("a", fault_domains=before), params, cluster(known("a")))


def test_labels_are_added_and_taken_away_and_what_is_not_named_stays() -> None:
    both = changed("rack:3", "power:B", fault_domains={"storage:x": True, "power:A": True, "power:B": False})
    assert both.fault_domains == ("power:A", "rack:3", "storage:x")
    assert changed("power:A", fault_domains={"power:A": True}).fault_domains == ("power:A",)
    assert changed("power:A", site="east").fault_domains == ("power:A",)


def test_a_label_that_is_not_there_cannot_be_taken_away() -> None:
    with pytest.raises(InvalidInput, match="power:b is no fault domain of node a") as refused:
        changed("power:B", fault_domains={"power:b": False})
    assert refused.value.hint == "those that it has: power:B"


def test_a_record_of_before_has_none_and_a_new_one_keeps_its_own() -> None:
    spec = node_spec("a", fault_domains=("power:A",))
    assert decode(NodeSpec, node_key(A), encode(spec)) == spec
    old = json.loads(encode(spec))
    del old["fault_domains"]
    assert decode(NodeSpec, node_key(A), json.dumps(old).encode()).fault_domains == ()


async def test_a_witness_brings_its_own_and_one_that_says_nothing_keeps_those_of_its_record(tmp_path: Path) -> None:
    async with join_port(tmp_path) as port:
        for said, expected in ((("rack:3", "power:B", "rack:3"), ("power:B", "rack:3")), ((), ("power:B", "rack:3"))):
            token, _ = await port.enrolment.create_token(HOUR_MS)
            asked = request(
                token=token,
                node="w",
                is_witness=True,
                wall_clock_ms=port.clock.wall_ms(),
                request_pem=create_request(NodeName("w")).request_pem.decode(),
                fault_domains=said,
            )
            assert [_ async for _ in port.enrolment.handle("join", asked.model_dump(mode="json"), source=SOURCE)]
            assert port.database.snapshot().nodes[NodeName("w")].value.fault_domains == expected


@pytest.mark.parametrize(
    ("cpu", "vendor", "expected"),
    [
        ("flags\t\t: fpu sse2 hypervisor lahf_lm\n", "Dell Inc.", True),
        ("model name\t: hypervisor\nflags\t\t: fpu sse2\n", "Dell Inc.", False),
        ("Features\t: fp asimd\n", "QEMU", True),
        ("Features\t: fp asimd\n", None, False),
    ],
    ids=["x86-guest", "x86-metal", "arm-guest", "arm-board"],
)
def test_a_guest_is_told_by_its_processor_or_its_firmware(
    tmp_path: Path, cpu: str, vendor: str | None, *, expected: bool
) -> None:
    info, maker = tmp_path / "cpuinfo", tmp_path / "sys_vendor"
    info.write_text(f"processor\t: 0\n{cpu}")
    if vendor is not None:
        maker.write_text(f"{vendor}\n")
    assert is_virtual_machine(cpu_info=info, system_vendor=maker) is expected
