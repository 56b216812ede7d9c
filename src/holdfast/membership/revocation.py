"""The list of certificates that are worth nothing any more, signed by the cluster's authority.

Rule of the file: pure. A list never ends before its authority: one that is out of date would shut out everybody.
Source: RFC 5280, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from holdfast.membership.certificates import AUTHORITY_LIFETIME, BACKDATED, KeyAndCertificate, read_certificate
from holdfast.membership.errors import CertificateInvalid
from holdfast.model.certificates import IssuedCertificate, RevokedCertificate


def sign_revocations(authority: KeyAndCertificate, revoked: Iterable[RevokedCertificate], now: datetime) -> bytes:
    """Return the list (PEM) of these certificates, which may be none."""
    key = load_pem_private_key(authority.key_pem, password=None)
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATED)
        .next_update(now + AUTHORITY_LIFETIME)
    )
    for one in revoked:
        at = datetime.fromtimestamp(one.at_ms / 1000, UTC)
        entry = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16)).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def to_der(list_pem: bytes) -> bytes:
    """Return the list as etcd of every version reads it. Raises: CertificateInvalid."""
    try:
        return x509.load_pem_x509_crl(list_pem).public_bytes(Encoding.DER)
    except ValueError as error:
        raise CertificateInvalid(f"the list of revoked certificates cannot be read: {error}") from error


def to_pem(list_der: bytes) -> bytes:
    """Return the list as libvirt and QEMU read it. Raises: CertificateInvalid."""
    try:
        return x509.load_der_x509_crl(list_der).public_bytes(Encoding.PEM)
    except ValueError as error:
        raise CertificateInvalid(f"the list of revoked certificates cannot be read: {error}") from error


def issued(certificate_pem: bytes, source: str) -> IssuedCertificate:
    """Return what the database keeps of a certificate; `source` is named in the error. Raises: CertificateInvalid."""
    certificate = read_certificate(certificate_pem, source)
    until_ms = int(certificate.not_valid_after_utc.timestamp() * 1000)
    return IssuedCertificate(serial=f"{certificate.serial_number:x}", until_ms=until_ms)
