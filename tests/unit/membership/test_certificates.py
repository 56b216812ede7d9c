"""The cluster's certificates work between nodes of one cluster, and with nobody else."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.membership.certificate_files import CertificateFiles, joining_context, unproven_context
from holdfast.membership.certificates import (
    KeyAndCertificate,
    create_authority,
    create_request,
    fingerprint,
    require_fingerprint,
    sign_request,
)
from holdfast.membership.errors import CertificateInvalid
from holdfast.model.ids import NodeName

NOW = datetime.now(UTC)
N1, N2 = NodeName("n1"), NodeName("n2")


@pytest.fixture
def authority() -> KeyAndCertificate:
    return create_authority(cluster_name="lab", now=NOW)


def join(
    authority: KeyAndCertificate, folder: Path, node: NodeName = N1, now: datetime = NOW, address: str = "127.0.0.1"
) -> CertificateFiles:
    request = create_request(node)
    certificate = sign_request(authority, request.request_pem, node=node, addresses=[address], now=now)
    files = CertificateFiles(folder)
    files.write_node(key_pem=request.key_pem, certificate_pem=certificate, authority_pem=authority.certificate_pem)
    return files


async def greet(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[str, str | None]:
    """One TLS connection: the CN that the server saw of the client, and the protocol agreed upon."""
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = (writer.get_extra_info("peercert") or {}).get("subject", ())
        seen.set_result(next((value for ((key, value),) in subject if key == "commonName"), ""))
        writer.write(b"hello")
        writer.close()

    async with asyncio.timeout(5), await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        try:
            if await reader.read() != b"hello":
                raise ConnectionError("the server hung up after it saw the client")  # how TLS 1.3 refuses one
            agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        finally:
            writer.close()
        return await seen, agreed


async def test_two_nodes_know_each_other_by_address_and_by_name(authority: KeyAndCertificate, tmp_path: Path) -> None:
    one, two = join(authority, tmp_path / "1", N1), join(authority, tmp_path / "2", N2)
    server, client = one.server_context(alpn=["h2"]), two.client_context(alpn=["h2"])
    for name in ("127.0.0.1", "localhost", "n1"):
        assert await greet(server, client, name) == ("n2", "h2")


async def test_a_server_that_is_another_node_is_not_believed(authority: KeyAndCertificate, tmp_path: Path) -> None:
    one, two = join(authority, tmp_path / "1", N1), join(authority, tmp_path / "2", N2)
    for name in ("n3", "10.9.9.9"):
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(one.server_context(), two.client_context(), name)


async def test_a_client_of_another_cluster_is_refused(authority: KeyAndCertificate, tmp_path: Path) -> None:
    one = join(authority, tmp_path / "1", N1)
    stranger = join(create_authority(cluster_name="lab", now=NOW), tmp_path / "2", N2)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greet(one.server_context(), stranger.client_context())
    (tmp_path / "2" / "ca.crt").write_bytes(authority.certificate_pem)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await greet(one.server_context(), stranger.client_context())


async def test_a_client_without_certificate_gets_only_where_joiners_may(
    authority: KeyAndCertificate, tmp_path: Path
) -> None:
    one = join(authority, tmp_path / "1", N1)
    joiner = joining_context(authority.certificate_pem)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await greet(one.server_context(), joiner)
    assert await greet(one.server_context(requires_client=False), joiner) == ("", None)
    assert await greet(one.server_context(requires_client=False), unproven_context()) == ("", None)


async def test_a_joiner_believes_only_the_proven_authority(authority: KeyAndCertificate, tmp_path: Path) -> None:
    one = join(authority, tmp_path / "1", N1)
    other = joining_context(create_authority(cluster_name="lab", now=NOW).certificate_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greet(one.server_context(requires_client=False), other)


def test_certificates_say_what_they_are_for(authority: KeyAndCertificate) -> None:
    request = create_request(N1)
    pem = sign_request(authority, request.request_pem, node=N1, addresses=["10.0.0.1", "fd00::1"], now=NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1", "127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["n1", "localhost"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert NOW - certificate.not_valid_before_utc >= timedelta(hours=1)
    assert timedelta(days=364) < certificate.not_valid_after_utc - NOW < timedelta(days=366)


def test_a_request_for_another_name_is_refused(authority: KeyAndCertificate) -> None:
    request = create_request(N2)
    with pytest.raises(CertificateInvalid, match="for 'CN=n2', but the sender joins as node 'n1'"):
        sign_request(authority, request.request_pem, node=N1, addresses=[], now=NOW)


def test_damaged_requests_are_refused(authority: KeyAndCertificate) -> None:
    whole = create_request(N1).request_pem
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    of_rsa = x509.CertificateSigningRequestBuilder().subject_name(name).sign(rsa_key, SHA256())
    for pem in (b"", b"nonsense", whole[:-60], of_rsa.public_bytes(Encoding.PEM)):
        with pytest.raises(CertificateInvalid, match="request"):
            sign_request(authority, pem, node=N1, addresses=[], now=NOW)


def test_names_and_addresses_that_do_not_fit_are_refused(authority: KeyAndCertificate) -> None:
    for name in ("", "n" * 65):
        with pytest.raises(CertificateInvalid, match="1 to 64"):
            create_authority(cluster_name=name, now=NOW)
    with pytest.raises(CertificateInvalid, match=r"10\.0\.0\.999"):
        sign_request(authority, create_request(N1).request_pem, node=N1, addresses=["10.0.0.999"], now=NOW)


def test_the_fingerprint_tells_authorities_apart(authority: KeyAndCertificate) -> None:
    wanted = fingerprint(authority.certificate_pem)
    assert len(wanted) == 64
    require_fingerprint(authority.certificate_pem, wanted, "10.0.0.1:7406")
    other = create_authority(cluster_name="lab", now=NOW).certificate_pem
    with pytest.raises(CertificateInvalid, match=r"^10\.0\.0\.1:7406 showed a cluster CA with fingerprint"):
        require_fingerprint(other, wanted, "10.0.0.1:7406")
    with pytest.raises(CertificateInvalid, match="not a PEM certificate"):
        require_fingerprint(b"<html>", wanted, "10.0.0.1:7406")


def test_good_files_are_accepted_and_private(authority: KeyAndCertificate, tmp_path: Path) -> None:
    files = join(authority, tmp_path)
    files.write_authority(authority)
    files.check_node(NOW)
    assert files.read_authority(NOW) == authority
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("node.crt", None, r"cannot read .*/node\.crt: No such file"),
        ("node.crt", b"nonsense", r"/node\.crt is not a PEM certificate"),
        ("ca.crt", b"nonsense", r"/ca\.crt is not a PEM certificate"),
        ("node.key", b"nonsense", r"private key of .*/node\.crt cannot be read"),
        ("node.key", create_request(N1).key_pem, r"/node\.crt does not belong to the private key"),
        ("ca.crt", create_authority(cluster_name="x", now=NOW).certificate_pem, r"node\.crt was not issued by .*CN=x"),
    ],
)
def test_bad_files_are_named(
    authority: KeyAndCertificate, tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    files = join(authority, tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(CertificateInvalid, match=words):
        files.check_node(NOW)


@pytest.mark.parametrize("file", ["node.crt", "ca.crt", "node.key"])
def test_contexts_from_bad_files_are_refused(authority: KeyAndCertificate, tmp_path: Path, file: str) -> None:
    files = join(authority, tmp_path)
    (tmp_path / file).write_bytes(b"nonsense")
    with pytest.raises(CertificateInvalid, match=str(tmp_path)):
        files.client_context()


def test_times_are_judged_with_the_clock_in_the_message(authority: KeyAndCertificate, tmp_path: Path) -> None:
    files = join(authority, tmp_path)
    files.check_node(NOW - timedelta(minutes=59))
    with pytest.raises(CertificateInvalid, match=r"not valid before .* this machine's clock says") as early:
        files.check_node(NOW - timedelta(minutes=61))
    assert "clock" in early.value.hint
    with pytest.raises(CertificateInvalid, match=r"/node\.crt expired at"):
        files.check_node(NOW + timedelta(days=366))
    with pytest.raises(CertificateInvalid, match=r"/ca\.crt expired at"):
        files.check_node(NOW + timedelta(days=3651))


def test_a_certificate_is_renewed_in_time_with_the_same_key(authority: KeyAndCertificate, tmp_path: Path) -> None:
    files = join(authority, tmp_path)
    files.write_authority(authority)
    key, before = files.key.read_bytes(), files.certificate.read_bytes()
    assert not files.renew_node(node=N1, addresses=["10.0.0.1"], now=NOW + timedelta(days=244))
    assert files.certificate.read_bytes() == before
    for days in (246, 400):  # in time, and after the node was switched off for long
        files.certificate.write_bytes(before)
        assert files.renew_node(node=N1, addresses=["10.0.0.1"], now=NOW + timedelta(days=days))
        files.check_node(NOW + timedelta(days=days + 364))
    assert files.key.read_bytes() == key
