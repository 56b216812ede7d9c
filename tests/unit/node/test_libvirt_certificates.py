"""The node's certificate for libvirt and QEMU, and what they are to refuse."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.membership.revocation import sign_revocations
from holdfast.model.certificates import RevokedCertificate
from holdfast.model.errors import Conflict, NotFound
from holdfast.model.ids import NodeName
from holdfast.node.libvirt_certificates import follow_renewal, follow_revocations, install
from holdfast.node.libvirt_copies import LibvirtCopies

START = datetime(2030, 1, 1, tzinfo=UTC)
COPIES = ("libvirt/servercert.pem", "libvirt/clientcert.pem", "qemu/server-cert.pem", "qemu/client-cert.pem")

LISTS = ("CA/cacrl.pem", "qemu/ca-crl.pem")


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


class Machine:
    """A node with its own authority, and copies of its certificate."""

    def __init__(self, folder: Path) -> None:
        self.own, self.target = folder / "node", folder / "pki"
        self.files = CertificateFiles(self.own)
        self.authority = create_authority(cluster_name="test", now=START)
        self.request = create_request(NodeName("a"))
        self.write(self.signed(0))
        self.files.write_authority(self.authority)
        install(self.own, self.target)

    def write(self, certificate_pem: bytes) -> None:
        authority_pem = self.authority.certificate_pem
        self.files.write_node(
            key_pem=self.request.key_pem, certificate_pem=certificate_pem, authority_pem=authority_pem
        )

    def signed(self, day: int, *, request_pem: bytes | None = None) -> bytes:
        now = START + timedelta(days=day)
        pem = request_pem or self.request.request_pem
        return sign_request(self.authority, pem, node=NodeName("a"), addresses=("192.0.2.1",), now=now)

    def revoke(self, *serials: str) -> None:
        revoked = [RevokedCertificate(serial=serial, node=NodeName("b"), until_ms=0, at_ms=0) for serial in serials]
        self.files.write_revocations(sign_revocations(self.authority, revoked, START))

    def refused(self) -> list[list[str]]:
        """The serials that libvirt and QEMU are to refuse."""
        lists = [x509.load_pem_x509_crl((self.target / name).read_bytes()) for name in LISTS]
        return [[f"{one.serial_number:x}" for one in listed] for listed in lists]

    def copies(self) -> list[bytes]:
        return [(self.target / name).read_bytes() for name in COPIES]


@pytest.mark.parametrize("done", range(5))
def test_copies_follow_a_renewal_that_was_killed_between_any_two(tmp_path: Path, done: int) -> None:
    machine = Machine(tmp_path)
    machine.write(new := machine.signed(1))
    for name in COPIES[:done]:
        (machine.target / name).write_bytes(new)
    assert follow_renewal(machine.own, machine.target) == tuple(machine.target / name for name in COPIES[done:])
    assert machine.copies() == [new] * 4
    assert {(machine.target / name).stat().st_mode & 0o777 for name in COPIES[done:]} <= {0o644}
    assert follow_renewal(machine.own, machine.target) == ()


def test_two_renewals_in_one_second_are_followed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(new := machine.signed(0))
    follow_renewal(machine.own, machine.target)
    assert machine.copies() == [new] * 4


def test_what_is_not_an_older_copy_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(machine.signed(1))
    later = machine.signed(2)
    for_another_key = machine.signed(0, request_pem=create_request(NodeName("a")).request_pem)
    machine.authority = create_authority(cluster_name="other", now=START)
    of_another_authority = machine.signed(0)
    theirs = [later, for_another_key, of_another_authority, b"words"]
    for name, content in zip(COPIES, theirs, strict=True):
        (machine.target / name).write_bytes(content)
    assert follow_renewal(machine.own, machine.target) == ()
    assert machine.copies() == theirs


def test_without_copies_there_is_nothing_to_follow(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write(machine.signed(1))
    assert follow_renewal(machine.own, tmp_path / "none") == ()


def test_what_is_revoked_is_put_beside_the_authority(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert follow_revocations(machine.own, machine.target) == (), "the cluster has no list yet"
    machine.revoke()
    assert follow_revocations(machine.own, machine.target) == tuple(machine.target / name for name in LISTS)
    machine.revoke("abc")
    (machine.target / LISTS[0]).unlink()
    assert follow_revocations(machine.own, machine.target) == tuple(machine.target / name for name in LISTS)
    assert machine.refused() == [["abc"]] * 2
    assert {(machine.target / name).stat().st_mode & 0o777 for name in LISTS} == {0o644}
    assert follow_revocations(machine.own, machine.target) == ()


def test_another_authority_keeps_its_own_list(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.revoke("abc")
    (machine.target / "CA/cacert.pem").write_text("another")
    assert follow_revocations(machine.own, machine.target) == (machine.target / "qemu/ca-crl.pem",)
    assert follow_revocations(machine.own, tmp_path / "none") == ()


class Tool:
    """A program in the place of virt-admin that notes what it was asked and says what it is to say."""

    def __init__(self, folder: Path) -> None:
        self.path, self._asked, self._answer = folder / "tool", folder / "asked", folder / "answer"
        self.path.write_text(
            f"#!{sys.executable}\nimport sys, time\n"
            f"open({str(self._asked)!r}, 'a').write(sys.argv[2] + ' ' + sys.argv[4] + '\\n')\n"
            f"exec(open({str(self._answer)!r}).read())\n"
        )
        self.path.chmod(0o700)
        self.answers("")

    def answers(self, program: str) -> None:
        self._answer.write_text(program)

    def asked(self) -> list[str]:
        """What it was asked since the last time."""
        asked = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        return asked


ONE, OTHER = "libvirtd:///system libvirtd", "virtproxyd:///system virtproxyd"


async def test_libvirt_is_told_of_each_change_until_it_has_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine, tool = Machine(tmp_path), Tool(tmp_path)
    machine.revoke()
    copies = LibvirtCopies(machine.own, target=machine.target, tool=str(tool.path), answer_s=1)
    for _ in range(2):
        await copies.follow()
    assert tool.asked() == [ONE]

    machine.revoke("abc")
    tool.answers("sys.exit('error: nobody is here')")
    for _ in range(2):
        await copies.follow()
    assert tool.asked() == [ONE, OTHER] * 2
    assert caplog.text.count("nobody is here; virtproxyd: error: nobody is here") == 1
    assert machine.refused() == [["abc"]] * 2

    tool.answers("sys.argv[4] == 'libvirtd' and time.sleep(60)")
    for _ in range(2):
        await copies.follow()
    assert tool.asked() == [ONE, OTHER], "the modular daemon answered"
    machine.write(machine.signed(1))
    tool.answers("")
    await copies.follow()
    assert tool.asked() == [ONE]


async def test_libvirt_is_told_nothing_where_it_has_no_certificate_of_the_cluster(tmp_path: Path) -> None:
    machine, tool = Machine(tmp_path), Tool(tmp_path)
    await LibvirtCopies(machine.own, target=tmp_path / "none", tool=str(tool.path)).follow()
    assert tool.asked() == []


async def test_a_machine_without_the_tool_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(tmp_path)
    await LibvirtCopies(machine.own, target=machine.target, tool=str(tmp_path / "none")).follow()
    assert "cannot be run" in caplog.text
