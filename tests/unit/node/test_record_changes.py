"""What requests make of records: roles on shared disks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.decide.made_up import cluster, put, role

from holdfast.hypervisor.domain_xml import parse_guest
from holdfast.model.disks import DiskSpec
from holdfast.model.errors import Conflict, NotFound
from holdfast.model.ids import DiskName
from holdfast.node.record_changes import check_addition, new_role
from holdfast.node.request_params import AddParams

DATA, LOGS = DiskName("data"), DiskName("logs")


def on_disks(*names: str) -> AddParams:
    disks = "".join(
        f"<disk type='volume'><source pool='holdfast' volume='{name}'/><target dev='vd{name[0]}'/></disk>"
        for name in names
    )
    text = f"<domain type='kvm'><name>db</name><memory>1024</memory><vcpu>1</vcpu><devices>{disks}</devices></domain>"
    return AddParams(domain_xml=text)


def add(wanted: AddParams, *parts: object) -> tuple[DiskName, ...]:
    guest = parse_guest(wanted.domain_xml, uuid_if_missing="5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11")
    spec = new_role(guest, wanted)
    known = (put("disks", name, disk(name)) for name in (DATA, LOGS))
    check_addition(spec, guest, cluster(*known, *parts))  # type: ignore[arg-type]
    return spec.disks


def disk(name: DiskName) -> DiskSpec:
    return DiskSpec(
        name=name, designator=f"naa.{name}", size_bytes=1, guest_source=f"/dev/{name}", reservations="sg:/x"
    )


def test_a_role_knows_its_disks() -> None:
    assert add(on_disks("logs", "data"), role("web", disks=(DiskName("other"),))) == (LOGS, DATA)


def test_safe_1_a_disk_that_is_not_in_the_cluster_is_refused() -> None:
    with pytest.raises(NotFound, match="uses disk 'dat'") as refused:
        add(on_disks("dat"))
    assert "disks are: data, logs" in refused.value.hint


def test_safe_1_a_disk_of_another_role_is_refused() -> None:
    with pytest.raises(Conflict, match="role web uses disk logs already"):
        add(on_disks("data", "logs"), role("web", disks=(LOGS,)))


def test_a_heartbeat_disk_is_refused() -> None:
    with pytest.raises(Conflict, match="disk beat is for the heartbeats of the nodes"):
        add(on_disks("beat"), put("disks", DiskName("beat"), replace(disk(DiskName("beat")), is_heartbeat=True)))
