"""A join token lets in one machine, once, in time, into its own cluster; anything else is refused in plain words."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.membership.endpoint import Endpoint, parse_endpoint
from holdfast.membership.errors import TokenExpired, TokenMalformed, TokenOtherCluster, TokenRefused, TokenUsed
from holdfast.membership.tokens import check_token, create_token, decode_token, encode_token
from holdfast.model.ids import NodeName

CA = "ab" * 32
ENDPOINTS = (Endpoint(address="10.0.0.1", port=7406), Endpoint(address="fd00::1", port=7406))
NOW_MS = 1_700_000_000_000


def test_a_token_brings_its_addresses_and_lets_in() -> None:
    text, record = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    token = decode_token(text)
    assert (token.endpoints, token.authority_fingerprint, token.token_id) == (ENDPOINTS, CA, record.token_id)
    check_token(token, record, authority_fingerprint=CA, now_ms=NOW_MS + 3_600_000)


def test_the_record_does_not_hold_the_secret() -> None:
    text, record = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    secret = decode_token(text).secret
    assert secret.hex() not in repr(record)
    assert record.secret_hash == hashlib.sha256(secret).hexdigest()


def test_copied_with_line_breaks_it_still_reads() -> None:
    text, _ = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    assert decode_token(f"  {text[:40]}\n{text[40:]} \n") == decode_token(text)


@given(st.data())
def test_any_mistyped_character_is_noticed(data: st.DataObject) -> None:
    text, _ = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    position = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_.!é").filter(lambda c: c != text[position]))
    changed = text[:position] + other + text[position + 1 :]
    try:
        decoded = decode_token(changed)
    except TokenMalformed:
        return
    # The last character carries spare bits: what reads the same is the same token.
    assert position == len(text) - 1
    assert decoded == decode_token(text)


@given(st.integers(1, 200))
def test_a_token_that_was_cut_off_is_noticed(missing: int) -> None:
    text, _ = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    with pytest.raises(TokenMalformed):
        decode_token(text[:-missing])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with"),
        ("k3s-token", "begins with 'holdfast-join-1.', this one with 'k3s-token'"),
        ("holdfast-join-1.", "too short"),
        ("holdfast-join-1.AAAA", "too short: 4 characters"),
        ("holdfast-join-1.AA*A", "characters that do not belong"),
        ("holdfast-join-1." + "A" * 200, "checksum"),
    ],
)
def test_malformed_tokens_say_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(TokenMalformed, match=words):
        decode_token(text)


def test_a_token_without_usable_address_is_malformed() -> None:
    body = bytes(60) + b"10.0.0.1:99999"
    check = hashlib.sha256(b"holdfast-join-1." + body).digest()[:4]
    text = "holdfast-join-1." + base64.urlsafe_b64encode(body + check).decode().rstrip("=")
    with pytest.raises(TokenMalformed, match="'99999'"):
        decode_token(text)


def test_refusals_name_what_happened() -> None:
    text, record = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    token = decode_token(text)
    with pytest.raises(TokenExpired, match="expired at 2023-11-14 23:13:20 UTC"):
        check_token(token, record, authority_fingerprint=CA, now_ms=NOW_MS + 3_600_001)
    used = record.used(NodeName("n4"), NOW_MS + 1000)
    with pytest.raises(TokenUsed, match="used by node n4 at 2023-11-14 22:13:21 UTC"):
        check_token(token, used, authority_fingerprint=CA, now_ms=NOW_MS + 2000)
    with pytest.raises(TokenOtherCluster, match=r"abababab.*cdcdcdcd"):
        check_token(token, record, authority_fingerprint="cd" * 32, now_ms=NOW_MS)
    with pytest.raises(TokenRefused, match="has no join token"):
        check_token(token, None, authority_fingerprint=CA, now_ms=NOW_MS)
    with pytest.raises(TokenRefused, match="with that secret"):
        check_token(replace(token, secret=bytes(20)), record, authority_fingerprint=CA, now_ms=NOW_MS)


def test_who_does_not_know_the_secret_does_not_learn_who_used_the_token() -> None:
    text, record = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    guess = replace(decode_token(text), secret=bytes(20))
    with pytest.raises(TokenRefused) as caught:
        check_token(guess, record.used(NodeName("n4"), NOW_MS), authority_fingerprint=CA, now_ms=NOW_MS)
    assert "n4" not in str(caught.value)


@given(st.integers(1, 65535), st.sampled_from(["10.0.0.1", "fd00::1", "node-1.example"]))
def test_endpoints_read_as_they_are_written(port: int, address: str) -> None:
    endpoint = Endpoint(address=address, port=port)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["", "10.0.0.1", ":7406", "[]:1", "fd00::1:7406", "a:0", "a:65536", "a:x", "a:\u0663"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|brackets"):
        parse_endpoint(text)


def test_encoding_is_the_inverse_of_decoding() -> None:
    text, _ = create_token(authority_fingerprint=CA, endpoints=ENDPOINTS, now_ms=NOW_MS)
    assert encode_token(decode_token(text)) == text
