"""Nothing but a whole heartbeat of this cluster passes; everything else is told apart and raises nothing."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.membership.errors import HeartbeatTooLarge
from holdfast.membership.heartbeat import Heard, Heartbeat, Reject, RejectReason
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName

CLUSTER = ClusterId("5b0d4fd3-6d4b-4a55-9f3e-0a6f3f6f3a01")
KEY = bytes(range(32))
A, B = NetworkName("cluster-a"), NetworkName("cluster-b")

incarnations = st.uuids().map(lambda u: Incarnation(str(u)))
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(NodeName)
counters = st.integers(0, 2**64 - 1)
heard = st.builds(
    Heard,
    node=names,
    incarnation=incarnations,
    network=st.sampled_from([A, B]),
    sequence=counters,
    age_ms=st.integers(0, 2**32 - 1),
)
heartbeats = st.builds(
    Heartbeat,
    cluster_id=st.just(CLUSTER),
    node=names,
    incarnation=incarnations,
    sequence=counters,
    sent_at_ms=counters,
    wall_clock_ms=counters,
    heard=st.lists(heard, max_size=6).map(tuple),
    refused=st.lists(incarnations, max_size=3).map(tuple),
    quorate=st.booleans(),
    stopping=st.booleans(),
    generation=st.sampled_from([1, 2, 2**64 - 1]),
)


def codec(key: bytes = KEY, cluster: ClusterId = CLUSTER) -> HeartbeatCodec:
    return HeartbeatCodec(cluster_id=cluster, cluster_key=key, networks=[A, B])


def incarnation(number: int) -> Incarnation:
    return Incarnation(str(uuid.UUID(int=number)))


def some_heartbeat(sequence: int = 1000) -> Heartbeat:
    entry = Heard(node=NodeName("n2"), incarnation=incarnation(2), network=A, sequence=77, age_ms=12)
    return Heartbeat(
        cluster_id=CLUSTER,
        node=NodeName("n1"),
        incarnation=incarnation(1),
        sequence=sequence,
        sent_at_ms=123,
        wall_clock_ms=456,
        heard=(entry, entry._replace(network=B)),
        quorate=True,
    )


def reason(answer: Heartbeat | Reject) -> RejectReason:
    assert isinstance(answer, Reject)
    return answer.reason


@given(heartbeats)
def test_what_is_sent_arrives_as_it_was(heartbeat: Heartbeat) -> None:
    assert codec().decode(codec().encode(heartbeat, A), A) == heartbeat


@given(heartbeats, st.data())
def test_any_changed_byte_is_rejected(heartbeat: Heartbeat, data: st.DataObject) -> None:
    datagram = bytearray(codec().encode(heartbeat, A))
    position = data.draw(st.integers(0, len(datagram) - 1))
    datagram[position] ^= data.draw(st.integers(1, 255))
    assert isinstance(codec().decode(bytes(datagram), A), Reject)


def test_every_single_bit_is_protected() -> None:
    datagram, receiver = codec().encode(some_heartbeat(), A), codec()
    for bit in range(len(datagram) * 8):
        damaged = bytearray(datagram)
        damaged[bit // 8] ^= 1 << (bit % 8)
        assert isinstance(receiver.decode(bytes(damaged), A), Reject), bit


@given(heartbeats, st.integers(0, 2000), st.binary(max_size=20))
def test_cut_and_prolonged_datagrams_are_rejected(heartbeat: Heartbeat, cut: int, tail: bytes) -> None:
    datagram = codec().encode(heartbeat, A)
    for changed in (datagram[: cut % len(datagram)], datagram + tail):
        if changed != datagram:
            assert isinstance(codec().decode(changed, A), Reject)


@given(st.binary(max_size=300), st.booleans())
def test_noise_raises_nothing(noise: bytes, looks_like_ours: bool) -> None:
    header = codec().encode(some_heartbeat(), A)[:40] if looks_like_ours else b""
    assert isinstance(codec().decode(header + noise, A), Reject)


@given(st.binary(max_size=200))
def test_a_key_holder_that_talks_nonsense_is_rejected(payload: bytes) -> None:
    receiver = codec()
    header = codec().encode(some_heartbeat(), A)[:40]
    cipher = receiver._derive(header[12:28], KEY)
    answer = receiver.decode(header + cipher.encrypt(header[28:40], payload, header), A)
    assert isinstance(answer, Heartbeat) or answer.reason is RejectReason.MALFORMED


@pytest.mark.parametrize("changed", [b"", b"more"])
def test_an_authentic_payload_of_another_length_is_malformed(changed: bytes) -> None:
    receiver, datagram = codec(), codec().encode(some_heartbeat(), A)
    header, cipher = datagram[:40], receiver._derive(datagram[12:28], KEY)
    payload = cipher.decrypt(header[28:40], datagram[40:], header)
    payload = payload + changed if changed else payload[:-1]
    answer = receiver.decode(header + cipher.encrypt(header[28:40], payload, header), A)
    assert reason(answer) is RejectReason.MALFORMED


def test_strangers_are_told_apart() -> None:
    datagram = codec().encode(some_heartbeat(), A)
    assert reason(codec().decode(b"GET / HTTP/1.1" + bytes(60), A)) is RejectReason.NOT_A_HEARTBEAT
    assert reason(codec().decode(datagram[:2] + b"\2" + datagram[3:], A)) is RejectReason.OTHER_VERSION
    assert reason(codec(cluster=ClusterId("other")).decode(datagram, A)) is RejectReason.OTHER_CLUSTER
    assert reason(codec(key=bytes(32)).decode(datagram, A)) is RejectReason.WRONG_KEY
    assert reason(codec().decode(datagram, B)) is RejectReason.WRONG_NETWORK


def test_a_datagram_moved_to_another_network_by_changing_its_header_is_rejected() -> None:
    on_a, on_b = codec().encode(some_heartbeat(), A), codec().encode(some_heartbeat(), B)
    moved = on_a[:28] + on_b[28:32] + on_a[32:]
    assert reason(codec().decode(moved, B)) is RejectReason.WRONG_KEY


def test_a_nonce_is_never_used_twice() -> None:
    sender = codec()
    sender.encode(some_heartbeat(1000), A)
    sender.encode(some_heartbeat(1000), B)
    sender.encode(replace(some_heartbeat(1000), incarnation=incarnation(9)), A)
    for sequence in (1000, 999):
        with pytest.raises(ValueError, match="was used already"):
            sender.encode(some_heartbeat(sequence), A)
    sender.encode(some_heartbeat(1001), A)


def test_the_same_content_looks_different_on_each_network_and_from_each_incarnation() -> None:
    sealed = slice(40, -16)  # without header and tag, which differ anyway
    one = codec().encode(some_heartbeat(), A)[sealed]
    assert one != codec().encode(some_heartbeat(), B)[sealed]
    assert one != codec().encode(replace(some_heartbeat(), incarnation=incarnation(9)), A)[sealed]


def test_invented_incarnations_do_not_push_out_a_proven_key() -> None:
    receiver = codec()
    datagram = bytearray(codec().encode(some_heartbeat(), A))
    assert isinstance(receiver.decode(bytes(datagram), A), Heartbeat)
    kept = dict(receiver._ciphers)
    for number in range(300):
        datagram[12:28] = uuid.UUID(int=number + 100).bytes
        assert isinstance(receiver.decode(bytes(datagram), A), Reject)
    assert receiver._ciphers == kept


def test_sixteen_nodes_on_two_networks_fit_1200_bytes() -> None:
    nodes = [NodeName(f"hypervisor-{number:02}.dc1.example") for number in range(16)]
    assert max(map(len, nodes)) == 25
    entries = tuple(
        Heard(node=node, incarnation=incarnation(number), network=network, sequence=2**60, age_ms=2**31)
        for number, node in enumerate(nodes[1:])
        for network in (A, B)
    )
    heartbeat = replace(some_heartbeat(), node=nodes[0], heard=entries, refused=(incarnation(99),))
    assert len(codec().encode(heartbeat, A)) <= 1200


def test_a_long_age_saturates() -> None:
    entry = some_heartbeat().heard[0]._replace(age_ms=2**40)
    arrived = codec().decode(codec().encode(replace(some_heartbeat(), heard=(entry,)), A), A)
    assert isinstance(arrived, Heartbeat)
    assert arrived.heard[0].age_ms == 2**32 - 1


def test_what_does_not_fit_the_format_is_refused_by_the_sender() -> None:
    many = tuple(incarnation(number) for number in range(256))
    with pytest.raises(HeartbeatTooLarge, match="256 refusals"):
        codec().encode(replace(some_heartbeat(), refused=many), A)
    with pytest.raises(HeartbeatTooLarge, match="256 bytes"):
        codec().encode(replace(some_heartbeat(), node=NodeName("ä" * 128)), A)
    with pytest.raises(ValueError, match="not a UUID"):
        codec().encode(replace(some_heartbeat(), incarnation=Incarnation("abcd")), A)


def test_networks_with_one_tag_are_refused() -> None:
    with pytest.raises(InvalidInput, match="same tag"):
        HeartbeatCodec(
            cluster_id=CLUSTER, cluster_key=KEY, networks=[NetworkName(n) for n in ("net-104254", "net-185734")]
        )
