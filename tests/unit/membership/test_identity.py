"""A node knows who it is, or says which file is damaged; it never makes itself up anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.membership.atomic_file import write_durably
from holdfast.membership.cluster_key import create_cluster_key, read_cluster_key, write_cluster_key
from holdfast.membership.errors import FileNotWritten, IdentityInvalid, NotJoined
from holdfast.membership.identity import (
    IncarnationFile,
    NodeIdentity,
    Peer,
    Ports,
    read_boot_id,
    read_identity,
    write_identity,
)
from holdfast.model.ids import ClusterId, NetworkName, NodeName

A, B = NetworkName("cluster-a"), NetworkName("cluster-b")
IDENTITY = NodeIdentity(
    cluster_id=ClusterId("5b0d4fd3-6d4b-4a55-9f3e-0a6f3f6f3a01"),
    cluster_name="lab",
    node=NodeName("n1"),
    node_id="0f0d4fd3-6d4b-4a55-9f3e-0a6f3f6f3a01",
    addresses={A: "10.0.0.1", B: "fd00::1"},
    ports=Ports(heartbeat=7505),
    is_voter=True,
    peers=(Peer(node=NodeName("n2"), addresses={A: "10.0.0.2"}, is_voter=True),),
)


def test_identity_is_kept_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "holdfast" / "identity.json"
    write_identity(IDENTITY, path)
    assert read_identity(path) == IDENTITY
    assert list(read_identity(path).addresses) == [A, B]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_file_the_node_is_in_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(NotJoined, match=r"no .*identity\.json"):
        read_identity(tmp_path / "identity.json")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.0.0.1", "10.0.0.256", "addresses.cluster-a"),
        ('"heartbeat": 7505', '"heartbeat": 70000', "ports.heartbeat"),
        ('"cluster_name"', '"cluster_nmae"', "cluster_nmae"),
        ("5b0d4fd3", "nonsense", "cluster_id"),
        ('"format": 1', '"format": 2', "format"),
        ("{", "", "file: Invalid JSON"),
    ],
)
def test_a_damaged_identity_names_file_and_fault(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "identity.json"
    write_identity(IDENTITY, path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(IdentityInvalid, match=words) as caught:
        read_identity(path)
    assert str(path) in str(caught.value)


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_text("{}")
    with pytest.raises(IdentityInvalid, match=r"cluster_id.*node.*addresses"):
        read_identity(path)


def test_the_incarnation_lasts_until_the_machine_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "incarnation"
    first = IncarnationFile("boot-1", path).load_or_create()
    assert IncarnationFile("boot-1", path).load_or_create() == first
    second = IncarnationFile("boot-2", path).load_or_create()
    assert second != first
    path.unlink()
    assert IncarnationFile("boot-2", path).load_or_create() not in {first, second}


def test_a_node_that_was_fenced_becomes_another_one(tmp_path: Path) -> None:
    file = IncarnationFile("boot-1", tmp_path / "incarnation")
    first = file.load_or_create()
    second = file.replace()
    assert second != first
    assert file.load_or_create() == second


@pytest.mark.parametrize("content", [b"", b"abc", b"not-a-uuid boot-1", b"\xff\xfe", b"a b c"])
def test_a_damaged_incarnation_is_no_new_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "incarnation"
    path.write_bytes(content)
    with pytest.raises(IdentityInvalid, match="is damaged"):
        IncarnationFile("boot-1", path).load_or_create()
    assert path.read_bytes() == content


def test_this_machine_has_a_boot_id() -> None:
    assert len(read_boot_id()) == 36


def test_the_cluster_key_is_kept_secret_and_whole(tmp_path: Path) -> None:
    path, key = tmp_path / "cluster.key", create_cluster_key()
    write_cluster_key(key, path)
    assert read_cluster_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    for content, words in ((key.hex()[:-2], "has 31 bytes"), ("zz" + key.hex()[2:], "not hexadecimal")):
        path.write_text(content)
        with pytest.raises(IdentityInvalid, match=words) as caught:
            read_cluster_key(path)
        assert key.hex()[2:-2] not in str(caught.value)
    path.unlink()
    with pytest.raises(IdentityInvalid, match="cannot read"):
        read_cluster_key(path)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "inside").write_text("x")
    with pytest.raises(FileNotWritten, match="cannot write"):
        write_durably(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


FILL_A_SMALL_DISK = """
import sys
from pathlib import Path
from holdfast.membership.atomic_file import write_durably
from holdfast.membership.errors import DiskFull
path = Path(sys.argv[1]) / "identity.json"
write_durably(path, b"old")
try:
    write_durably(path, bytes(200_000))
except DiskFull as error:
    print(error)
assert path.read_bytes() == b"old"
assert [entry.name for entry in path.parent.iterdir()] == ["identity.json"]
"""


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    script = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*script, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a mount namespace")
    run = subprocess.run(
        [*script, sys.executable, "-c", FILL_A_SMALL_DISK, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert f"cannot write {tmp_path}/identity.json: no room for 200000 bytes, " in run.stdout
    assert "bytes are free" in run.stdout
