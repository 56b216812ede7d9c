"""The cluster's own certificate authority: makes, signs and judges certificates; opens no file and no socket.

Rule of the file: private keys are made where they are used and never travel; a node sends a request, and the issuer
takes nothing from it but the public key and the name it expects. Source: RFC 5280; docs/security.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.membership.errors import CertificateInvalid
from holdfast.model.ids import NodeName

AUTHORITY_LIFETIME = timedelta(days=3650)
NODE_LIFETIME = timedelta(days=365)
RENEWED_BEFORE_END = timedelta(days=120)
LOOPBACK = "127.0.0.1"
BACKDATED = timedelta(hours=1)
"""How far a certificate begins before its making: the clocks of two nodes may differ by so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAndCertificate:
    """A private key with the certificate for it, both as PEM."""

    key_pem: bytes
    certificate_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAndRequest:
    """A private key with the signing request for it, both as PEM. Only the request leaves the node."""

    key_pem: bytes
    request_pem: bytes


def create_authority(*, cluster_name: str, now: datetime) -> KeyAndCertificate:
    """A new certificate authority for one cluster.

    Raises:
        CertificateInvalid: the name does not fit into a certificate (1 to 64 characters).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(cluster_name)
    builder = (
        _begin(subject=name, issuer=name, key=key.public_key(), now=now, lifetime=AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return KeyAndCertificate(key_pem=_key_pem(key), certificate_pem=_pem(builder.sign(key, SHA256())))


def create_request(node: NodeName, *, key_pem: bytes | None = None) -> KeyAndRequest:
    """A request to certify a key for this node: a new private key, or the node's own when it renews its certificate.

    Raises:
        CertificateInvalid: the name does not fit into a certificate (1 to 64 characters), or the key is damaged.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if key_pem is None else _read_key(key_pem, f"node {node}")
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(node)).sign(key, SHA256())
    return KeyAndRequest(key_pem=_key_pem(key), request_pem=request.public_bytes(Encoding.PEM))


def sign_request(
    authority: KeyAndCertificate, request_pem: bytes, *, node: NodeName, addresses: Iterable[str], now: datetime
) -> bytes:
    """A certificate (PEM) by which the node proves its name, as server and as client, on all its addresses.

    `addresses` are the node's IP addresses on all networks; 127.0.0.1, `localhost` and the node's name are added.

    Raises:
        CertificateInvalid: the request is damaged, asks for another name, or an address is none.
    """
    request = _read_request(request_pem)
    if request.subject != _name(node):
        raise CertificateInvalid(
            f"the request is for {request.subject.rfc4514_string()!r}, but the sender joins as node {node!r}",
            hint="start the join again on that node, under the name it is to have",
        )
    key = load_pem_private_key(authority.key_pem, password=None)
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _begin(subject=_name(node), issuer=issuer.subject, key=request.public_key(), now=now, lifetime=NODE_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(node, addresses)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
    )
    return _pem(builder.sign(key, SHA256()))


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the certificate as 64 lower-case hexadecimal digits.

    Raises:
        CertificateInvalid: these bytes are no certificate.
    """
    return read_certificate(certificate_pem, "the certificate").fingerprint(SHA256()).hex()


def require_fingerprint(certificate_pem: bytes, wanted: str, source: str) -> None:
    """Trust a CA certificate that came over an unproven connection, because the join token named it.

    Raises:
        CertificateInvalid: it is another one, or none. `source` says where it came from.
    """
    seen = read_certificate(certificate_pem, f"what {source} sent").fingerprint(SHA256()).hex()
    if seen != wanted:
        raise CertificateInvalid(
            f"{source} showed a cluster CA with fingerprint {seen}, the join token names {wanted}",
            hint="the token is of another cluster, or somebody stands between: check the address, make a new token",
        )


def read_certificate(pem: bytes, source: str) -> x509.Certificate:
    """The certificate in these bytes; `source` (a file, a peer) is named in the error.

    Raises:
        CertificateInvalid: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateInvalid(f"{source} is not a PEM certificate: {error}") from error


def check_certificate(pem: bytes, *, key_pem: bytes, authority_pem: bytes, now: datetime, source: str) -> None:
    """Refuse a node's certificate that peers would refuse too, with words that say why. `source` names it.

    Raises:
        CertificateInvalid: damaged, of another CA, of another key, expired, or not valid yet.
    """
    certificate = read_certificate(pem, source)
    authority = read_certificate(authority_pem, "the cluster CA certificate")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateInvalid(
            f"{source} was not issued by this cluster's CA ({authority.subject.rfc4514_string()}, "
            f"fingerprint {authority.fingerprint(SHA256()).hex()})",
            hint="the files of two clusters are mixed; restore them from a backup, or remove the node and join again",
        ) from error
    check_validity(certificate, now=now, source=source)
    if _public_bytes(_read_key(key_pem, source).public_key()) != _public_bytes(certificate.public_key()):
        raise CertificateInvalid(
            f"{source} does not belong to the private key beside it",
            hint="restore both from the same backup, or remove the node and join again",
        )


def check_validity(certificate: x509.Certificate, *, now: datetime, source: str) -> None:
    """Refuse a certificate outside its time.

    Raises:
        CertificateInvalid: expired, or not valid yet (then it is most often the clock).
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"this machine's clock says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if now < begins:
        raise CertificateInvalid(
            f"{source} is not valid before {begins:%Y-%m-%d %H:%M} UTC; {clock}",
            hint="set the clock (and keep it set: chrony or systemd-timesyncd)",
        )
    if now > ends:
        raise CertificateInvalid(
            f"{source} expired at {ends:%Y-%m-%d %H:%M} UTC; {clock}",
            hint="if the clock is right, have a new certificate issued to this node",
        )


def _read_request(pem: bytes) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(pem)
        is_intact = request.is_signature_valid and isinstance(request.public_key(), ec.EllipticCurvePublicKey)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise CertificateInvalid(f"the certificate request cannot be read: {error}") from error
    if not is_intact:
        raise CertificateInvalid("the certificate request is not signed with the elliptic-curve key it is for")
    return request


def _read_key(pem: bytes, source: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateInvalid(f"the private key of {source} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateInvalid(f"the private key of {source} is not an elliptic-curve key")
    return key


def _begin(
    *, subject: x509.Name, issuer: x509.Name, key: object, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=not signs_certificates,  # libvirt and QEMU want it, though these keys never encipher
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise CertificateInvalid(
            f"the name {common_name!r} has {len(common_name)} characters; a certificate takes 1 to 64",
            hint="choose a shorter name",
        ) from error


def covered_addresses(certificate_pem: bytes, source: str) -> frozenset[IPv4Address | IPv6Address]:
    """The addresses that a certificate is for, without the loopback that each is for. Raises: CertificateInvalid."""
    extensions = read_certificate(certificate_pem, source).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset(one for one in addresses if isinstance(one, IPv4Address | IPv6Address) and str(one) != LOOPBACK)


def _names(node: NodeName, addresses: Iterable[str]) -> list[x509.GeneralName]:
    try:
        ips = [ip_address(text) for text in dict.fromkeys([*addresses, LOOPBACK])]
        return [x509.DNSName(node), x509.DNSName("localhost"), *map(x509.IPAddress, ips)]
    except ValueError as error:
        raise CertificateInvalid(f"no certificate for node {node!r}: {error}") from error


def _public_bytes(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
