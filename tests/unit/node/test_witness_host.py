"""Several witnesses on one machine: none takes the ports of another."""

from pathlib import Path

import pytest

from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import Ports, write_identity
from holdfast.membership.tokens import create_token, decode_token
from holdfast.model.errors import Conflict
from holdfast.node.residence import stranger
from holdfast.node.witness_host import free_ports, instances, join


def test_each_witness_of_a_machine_has_ports_of_its_own(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        ports = free_ports(instances(tmp_path))
        write_identity(stranger(name, {"cluster-a": "192.0.2.9"}, ports), tmp_path / name / "identity.json")
    (tmp_path / "aborted").mkdir()
    found = [one.identity.ports for one in instances(tmp_path)]
    assert found[0] == Ports()
    assert [one.etcd_client for one in found] == [2379, 2389, 2399]
    assert len({one.config.database for one in instances(tmp_path)}) == 3


async def test_a_witness_that_could_not_learn_of_its_end_is_told_which_folder_to_remove(tmp_path: Path) -> None:
    token, _ = create_token(
        authority_fingerprint="ab" * 32, endpoints=(Endpoint(address="192.0.2.1", port=1),), now_ms=0
    )
    folder = tmp_path / decode_token(token).authority_fingerprint[:16]
    write_identity(stranger("attic", {"cluster-a": "192.0.2.9"}, Ports()), folder / "identity.json")
    with pytest.raises(Conflict) as refused:
        await join(token, name="attic", state=tmp_path)
    assert f"remove {folder}," in refused.value.hint
