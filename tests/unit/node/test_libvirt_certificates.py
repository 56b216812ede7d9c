"""The node's certificate for libvirt and QEMU."""

from pathlib import Path

import pytest

from holdfast.model.errors import Conflict, NotFound
from holdfast.node.libvirt_certificates import install


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("ca.crt", "node.crt", "node.key"):
        (folder / name).write_text(name)
    return folder


def test_everything_is_put_where_libvirt_and_qemu_look(own: Path, tmp_path: Path) -> None:
    target = tmp_path / "pki"
    written = install(own, target)
    contents = {str(path.relative_to(target)): path.read_text() for path in written}
    assert contents == {
        "CA/cacert.pem": "ca.crt",
        "libvirt/servercert.pem": "node.crt",
        "libvirt/clientcert.pem": "node.crt",
        "libvirt/private/serverkey.pem": "node.key",
        "libvirt/private/clientkey.pem": "node.key",
        "qemu/ca-cert.pem": "ca.crt",
        "qemu/server-cert.pem": "node.crt",
        "qemu/client-cert.pem": "node.crt",
        "qemu/server-key.pem": "node.key",
        "qemu/client-key.pem": "node.key",
    }
    assert {path.stat().st_mode & 0o007 for path in written if "key" in path.name} == {0}


def test_a_renewed_certificate_replaces_the_old_one(own: Path, tmp_path: Path) -> None:
    install(own, tmp_path / "pki")
    (own / "node.crt").write_text("renewed")
    install(own, tmp_path / "pki")
    assert (tmp_path / "pki/qemu/server-cert.pem").read_text() == "renewed"


def test_another_authoritys_files_are_left_alone(own: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "pki/CA/cacert.pem"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("another")
    with pytest.raises(Conflict, match=r"cacert\.pem"):
        install(own, tmp_path / "pki")
    assert [path for path in (tmp_path / "pki").rglob("*") if path.is_file()] == [theirs]


def test_a_machine_outside_of_any_cluster_has_nothing_to_install(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        install(tmp_path, tmp_path / "pki")
