"""Several witnesses on one machine: none takes the ports of another."""

from pathlib import Path

from holdfast.membership.identity import Ports, write_identity
from holdfast.node.residence import stranger
from holdfast.node.witness_host import free_ports, instances


def test_each_witness_of_a_machine_has_ports_of_its_own(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        ports = free_ports(instances(tmp_path))
        write_identity(stranger(name, {"cluster-a": "192.0.2.9"}, ports), tmp_path / name / "identity.json")
    (tmp_path / "aborted").mkdir()
    found = [one.identity.ports for one in instances(tmp_path)]
    assert found[0] == Ports()
    assert [one.etcd_client for one in found] == [2379, 2389, 2399]
    assert len({one.config.database for one in instances(tmp_path)}) == 3
