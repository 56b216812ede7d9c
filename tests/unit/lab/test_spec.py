"""The lab's specification, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.lab.errors import BadLabName, LabNotRunning
from holdfast.lab.layout import Layout
from holdfast.lab.luns import StorageSpec, luns_of
from holdfast.lab.processes import ProcessId
from holdfast.lab.spec import LIBVIRTD, LabSpec, Service


def test_a_specification_survives_its_file(tmp_path: Path) -> None:
    service = Service(name="one", command=("/bin/true", "x"), nice=-3, restart_delay_ms=7)
    spec = LabSpec(nodes=4, services=(LIBVIRTD, service), has_fence=False, watchdog_timeout_s=1.5, has_kvm=True)
    path = tmp_path / "lab.json"
    path.write_text(spec.to_json())
    assert LabSpec.read(path) == spec
    assert spec.node_names == spec.machine_names == ["node1", "node2", "node3", "node4"]


def test_a_storage_node_is_a_machine_and_no_node_of_the_cluster(tmp_path: Path) -> None:
    spec = LabSpec(nodes=1, services=(), storage=StorageSpec(luns=3, lun_bytes=16 << 20, has_chap=True))
    path = tmp_path / "lab.json"
    path.write_text(spec.to_json())
    assert LabSpec.read(path) == spec
    assert spec.node_names == ["node1"]
    assert spec.machine_names == ["storage1", "node1"]


def test_a_witness_is_a_machine_and_no_host_of_the_cluster(tmp_path: Path) -> None:
    spec = LabSpec(nodes=2, services=(), storage=StorageSpec(luns=1), has_witness=True)
    path = tmp_path / "lab.json"
    path.write_text(spec.to_json())
    assert LabSpec.read(path) == spec
    assert spec.node_names == ["node1", "node2"]
    assert spec.machine_names == ["storage1", "node1", "node2", "witness1"]


@pytest.mark.parametrize(("luns", "lun_bytes"), [(0, 1 << 30), (17, 1 << 30), (1, 1 << 20), (1, (8 << 20) + 512)])
def test_a_storage_node_serves_one_to_sixteen_luns_of_a_fair_size(luns: int, lun_bytes: int) -> None:
    with pytest.raises(BadLabName):
        StorageSpec(luns=luns, lun_bytes=lun_bytes)


def test_luns_have_names_of_their_own_in_every_lab() -> None:
    luns = [lun for name in ("a", "b") for lun in luns_of(Layout.of(name), StorageSpec(luns=16))]
    assert len({lun.designator for lun in luns}) == len({lun.path for lun in luns}) == 32
    assert {len(lun.designator) for lun in luns} == {len("naa.") + 32}
    assert luns_of(Layout.of("a"), None) == []


def test_a_lab_that_was_never_built_has_none(tmp_path: Path) -> None:
    with pytest.raises(LabNotRunning):
        LabSpec.read(tmp_path / "lab.json")


@pytest.mark.parametrize("nodes", [0, 17])
def test_a_lab_has_one_to_sixteen_nodes(nodes: int) -> None:
    with pytest.raises(BadLabName):
        LabSpec(nodes=nodes, services=())


@pytest.mark.parametrize("torn", ["", "17", "17 ", "x y", "1 2 3"])
def test_a_torn_pid_file_names_no_process(torn: str) -> None:
    assert ProcessId.parse(torn) is None


def test_a_process_is_its_pid_and_its_start() -> None:
    init = ProcessId.of(1)
    assert init is not None
    assert ProcessId.parse(str(init)) == init
    assert init.is_alive
    assert not ProcessId(pid=init.pid, started=init.started + 1).is_alive
