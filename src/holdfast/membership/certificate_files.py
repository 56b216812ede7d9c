"""Where a node keeps its certificates, and TLS made from them.

Rule of the file: TLS of the cluster trusts exactly one CA, its own; the machine's list of CAs is never asked.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from holdfast.membership.atomic_file import write_durably
from holdfast.membership.certificates import (
    RENEWED_BEFORE_END,
    KeyAndCertificate,
    check_certificate,
    check_validity,
    covered_addresses,
    create_request,
    read_certificate,
    sign_request,
)
from holdfast.membership.errors import CertificateInvalid
from holdfast.membership.revocation import to_der
from holdfast.model.ids import NodeName


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The PEM files in one folder, all with mode 0600. etcd reads the same ones."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The cluster CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """The cluster CA's private key. Only on nodes that issue certificates."""
        return self.folder / "ca.key"

    @property
    def revocations(self) -> Path:
        """What the cluster CA has revoked (DER). etcd reads it at every handshake."""
        return self.folder / "ca.crl"

    @property
    def certificate(self) -> Path:
        """This node's certificate."""
        return self.folder / "node.crt"

    @property
    def key(self) -> Path:
        """This node's private key."""
        return self.folder / "node.key"

    def write_authority(self, authority: KeyAndCertificate) -> None:
        """Keep the CA with its key: this node can issue certificates.

        Raises:
            FileNotWritten: see `write_durably`.
        """
        write_durably(self.authority_key, authority.key_pem)
        write_durably(self.authority, authority.certificate_pem)

    def write_revocations(self, list_pem: bytes) -> bool:
        """Keep the list of what is revoked; whether it is another one than before.

        Raises:
            CertificateInvalid: it is none.
            FileNotWritten: see `write_durably`.
        """
        listed = to_der(list_pem)
        if self.revocations.exists() and self.revocations.read_bytes() == listed:
            return False
        write_durably(self.revocations, listed)
        return True

    def write_node(self, *, key_pem: bytes, certificate_pem: bytes, authority_pem: bytes) -> None:
        """Keep this node's key and certificate, and the CA it trusts.

        Raises:
            FileNotWritten: see `write_durably`.
        """
        write_durably(self.key, key_pem)
        write_durably(self.certificate, certificate_pem)
        write_durably(self.authority, authority_pem)

    def read_authority(self, now: datetime) -> KeyAndCertificate:
        """The CA with its key.

        Raises:
            CertificateInvalid: a file is missing, unreadable, damaged or out of its time; the message names it.
        """
        pem, key_pem = _read(self.authority), _read(self.authority_key)
        source = str(self.authority)
        check_validity(read_certificate(pem, source), now=now, source=source)
        check_certificate(pem, key_pem=key_pem, authority_pem=pem, now=now, source=source)
        return KeyAndCertificate(key_pem=key_pem, certificate_pem=pem)

    def check_node(self, now: datetime) -> None:
        """Refuse files with which no peer would speak to this node.

        Raises:
            CertificateInvalid: a file is missing, unreadable, damaged, of another CA or out of its time; the message
                names it.
        """
        authority_pem = _read(self.authority)
        source = str(self.authority)
        check_validity(read_certificate(authority_pem, source), now=now, source=source)
        check_certificate(
            _read(self.certificate),
            key_pem=_read(self.key),
            authority_pem=authority_pem,
            now=now,
            source=str(self.certificate),
        )

    def read_node(self) -> bytes:
        """This node's certificate (PEM). Raises: CertificateInvalid."""
        return _read(self.certificate)

    def request_again(self, node: NodeName) -> bytes:
        """A request (PEM) to certify this node's own key once more. Raises: CertificateInvalid."""
        return create_request(node, key_pem=_read(self.key)).request_pem

    def renew_node(self, *, node: NodeName, addresses: Iterable[str], now: datetime, is_due: bool = False) -> bool:
        """Issue this node's certificate anew if it is due or has under 120 days left; whether it did.

        The private key stays, so that the pair on disk fits together at every instant. etcd reads the file at each
        handshake; contexts made before go on with the old certificate until `load_cert_chain` is called on them.

        Raises:
            CertificateInvalid: a file is missing or damaged.
            FileNotWritten: see `write_durably`.
        """
        certificate = read_certificate(_read(self.certificate), str(self.certificate))
        if certificate.not_valid_after_utc - now > RENEWED_BEFORE_END and not is_due:
            return False
        request = create_request(node, key_pem=_read(self.key))
        authority = self.read_authority(now)
        renewed = sign_request(authority, request.request_pem, node=node, addresses=addresses, now=now)
        write_durably(self.certificate, renewed)
        return True

    def covers(self, addresses: Iterable[str]) -> bool:
        """Whether this node's certificate is for all of these addresses. Raises: CertificateInvalid."""
        return covered_addresses(self.read_node(), str(self.certificate)) >= frozenset(map(ip_address, addresses))

    def server_context(self, *, alpn: Sequence[str] = (), requires_client: bool = True) -> ssl.SSLContext:
        """TLS for a server. `requires_client` False only where joiners, who have no certificate yet, must get in.

        Raises:
            CertificateInvalid: a file is missing or damaged.
        """
        context = self._context(ssl.PROTOCOL_TLS_SERVER, alpn)
        context.verify_mode = ssl.CERT_REQUIRED if requires_client else ssl.CERT_OPTIONAL
        return context

    def client_context(self, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """TLS for a client that shows its own certificate. The server's name or address must be in the server's.

        Raises:
            CertificateInvalid: a file is missing or damaged.
        """
        return self._context(ssl.PROTOCOL_TLS_CLIENT, alpn)

    def _context(self, protocol: int, alpn: Sequence[str]) -> ssl.SSLContext:
        context = _new_context(protocol, alpn)
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateInvalid(
                f"cannot use the certificates in {self.folder} (ca.crt, node.crt, node.key): {error}",
                hint="restore them from a backup, or remove the node and join again",
            ) from error
        return context


def joining_context(authority_pem: bytes, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """TLS for a joiner: no certificate of its own yet; trusts this CA, whose fingerprint the join token proved.

    Raises:
        CertificateInvalid: these bytes are no certificate.
    """
    context = _new_context(ssl.PROTOCOL_TLS_CLIENT, alpn)
    read_certificate(authority_pem, "the cluster CA certificate")
    context.load_verify_locations(cadata=authority_pem.decode("ascii"))
    return context


def unproven_context(*, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """TLS that trusts whoever answers: only to fetch the CA certificate that `require_fingerprint` then proves."""
    context = _new_context(ssl.PROTOCOL_TLS_CLIENT, alpn)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _new_context(protocol: int, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateInvalid(
            f"cannot read {path}: {error.strerror}",
            hint="this node is not joined yet, or the file was lost: restore it, or remove the node and join again",
        ) from error
