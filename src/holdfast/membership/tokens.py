"""Join tokens: one string that lets one machine into one cluster, once, for a short time.

Rule of the file: pure. The database keeps a `TokenRecord` (never the secret); whoever uses a token marks the record in
the transaction that adds the node, so that it cannot let in two. Source: docs/security.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_bytes

from holdfast.membership.endpoint import Endpoint, parse_endpoint
from holdfast.membership.errors import TokenExpired, TokenMalformed, TokenOtherCluster, TokenRefused, TokenUsed
from holdfast.model.ids import NodeName

DEFAULT_TTL_MS = 3_600_000

_PREFIX = "holdfast-join-1."
_ID_BYTES, _SECRET_BYTES, _FINGERPRINT_BYTES, _CHECK_BYTES = 8, 20, 32, 4
_NEW = "make a new one on a node of the cluster: holdfast token create"
_COPY = "copy the whole token, from 'holdfast-join' to its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What the string carries. Whoever holds it can join: it is shown once and kept nowhere.

    authority_fingerprint   by which the joiner knows that it speaks to this cluster and nobody between.
    endpoints               where nodes of the cluster answer joiners; any one will do.
    """

    token_id: str
    secret: bytes
    authority_fingerprint: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What the database keeps of a token. Times are wall-clock milliseconds."""

    token_id: str
    secret_hash: str
    expires_at_ms: int
    used_by: NodeName | None = None
    used_at_ms: int | None = None

    def used(self, by: NodeName, at_ms: int) -> TokenRecord:
        """The record after this node has joined with it."""
        return replace(self, used_by=by, used_at_ms=at_ms)


def create_token(
    *,
    authority_fingerprint: str,
    endpoints: Sequence[Endpoint],
    now_ms: int,
    ttl_ms: int = DEFAULT_TTL_MS,
    random_bytes: Callable[[int], bytes] = token_bytes,
) -> tuple[str, TokenRecord]:
    """A new token: the string for the person, the record for the database."""
    token = JoinToken(
        token_id=random_bytes(_ID_BYTES).hex(),
        secret=random_bytes(_SECRET_BYTES),
        authority_fingerprint=authority_fingerprint,
        endpoints=tuple(endpoints),
    )
    record = TokenRecord(token_id=token.token_id, secret_hash=_hash(token.secret), expires_at_ms=now_ms + ttl_ms)
    return encode_token(token), record


def encode_token(token: JoinToken) -> str:
    """The string that a person carries to the joining machine."""
    body = bytes.fromhex(token.token_id) + token.secret + bytes.fromhex(token.authority_fingerprint)
    body += ",".join(map(str, token.endpoints)).encode()
    return _PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")


def decode_token(text: str) -> JoinToken:
    """Read a token; blanks and line breaks of copying do no harm.

    Raises:
        TokenMalformed: and what is wrong with it.
    """
    compact = "".join(text.split())
    if not compact.startswith(_PREFIX):
        raise TokenMalformed(f"a join token begins with {_PREFIX!r}, this one with {compact[:16]!r}", hint=_NEW)
    body = _decode_body(compact.removeprefix(_PREFIX))
    secret_at = _ID_BYTES
    fingerprint_at = secret_at + _SECRET_BYTES
    endpoints_at = fingerprint_at + _FINGERPRINT_BYTES
    try:
        endpoints = tuple(parse_endpoint(part) for part in body[endpoints_at:].decode().split(","))
    except ValueError as error:
        raise TokenMalformed(f"the join token names no usable address: {error}", hint=_NEW) from error
    return JoinToken(
        token_id=body[:secret_at].hex(),
        secret=body[secret_at:fingerprint_at],
        authority_fingerprint=body[fingerprint_at:endpoints_at].hex(),
        endpoints=endpoints,
    )


def check_token(token: JoinToken, record: TokenRecord | None, *, authority_fingerprint: str, now_ms: int) -> None:
    """Whether the token a joiner shows lets it into the cluster with this CA. record None: none has its id.

    Raises:
        TokenOtherCluster: the token names another cluster's CA.
        TokenRefused: this cluster never issued it, or its secret is wrong.
        TokenUsed: by whom and when.
        TokenExpired: when.
    """
    named = token.authority_fingerprint
    if named != authority_fingerprint:
        raise TokenOtherCluster(
            f"the join token is for the cluster with CA {named[:16]}…, this one has {authority_fingerprint[:16]}…",
            hint=f"use a token of this cluster; {_NEW}",
        )
    if record is None or not hmac.compare_digest(record.secret_hash, _hash(token.secret)):
        raise TokenRefused(f"this cluster has no join token {token.token_id} with that secret", hint=_NEW)
    if record.used_by is not None:
        when = "" if record.used_at_ms is None else f" at {_time(record.used_at_ms)}"
        raise TokenUsed(
            f"join token {token.token_id} was used by node {record.used_by}{when}", hint=f"it lets in one; {_NEW}"
        )
    if now_ms > record.expires_at_ms:
        raise TokenExpired(
            f"join token {token.token_id} expired at {_time(record.expires_at_ms)}; it is {_time(now_ms)} here",
            hint=_NEW,
        )


def _decode_body(encoded: str) -> bytes:
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenMalformed("the join token has characters that do not belong there", hint=_COPY) from error
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if len(body) <= _ID_BYTES + _SECRET_BYTES + _FINGERPRINT_BYTES:
        raise TokenMalformed(f"the join token is too short: {len(encoded)} characters after its prefix", hint=_COPY)
    if not hmac.compare_digest(check, _check(body)):
        raise TokenMalformed("the join token's checksum is wrong: it was cut off or mistyped", hint=_COPY)
    return body


def _check(body: bytes) -> bytes:
    return hashlib.sha256(_PREFIX.encode() + body).digest()[:_CHECK_BYTES]


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
