"""The translation to and from etcd's messages, and what its error answers prove."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from holdfast.model.errors import HoldfastError, InvalidInput
from holdfast.store.errors import LeaseNotFound, MemberChangeRefused, StoreFull, StoreOutcomeUnknown
from holdfast.store.etcd import caller, calls
from holdfast.store.etcd.connection import CallFailed, NotSent, Rejected, Unanswered, split_address
from holdfast.store.etcd.endpoints import Endpoint
from holdfast.store.etcd.timing import Timing
from holdfast.store.etcd.translate import prefix_range, watch_batches
from holdfast.store.port import Deleted, KeyValue, WatchBatch
from holdfast.store.proto import etcd_pb2 as pb

SRC = Path(__file__).parents[3] / "src"


def test_generated_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    if shutil.which("protoc") is None:
        pytest.skip("protoc is not installed")
    out = tmp_path / "set"
    subprocess.run(
        ["protoc", "-I", str(SRC), f"--descriptor_set_out={out}", "holdfast/store/proto/etcd.proto"], check=True
    )
    (wanted,) = FileDescriptorSet.FromString(out.read_bytes()).file
    wanted.ClearField("source_code_info")
    for message in wanted.message_type:
        for part in message.field:
            part.ClearField("json_name")
    assert wanted.SerializeToString() == pb.DESCRIPTOR.serialized_pb


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [("a/", (b"a/", b"a0")), ("", (b"\x00", b"\x00")), ("é", (b"\xc3\xa9", b"\xc3\xaa"))],
)
def test_a_prefix_is_a_range(prefix: str, wanted: tuple[bytes, bytes]) -> None:
    assert prefix_range(prefix) == wanted


def event(revision: int, key: bytes, *, deleted: bool = False) -> pb.Event:
    """An event as etcd sends it."""
    kind = pb.Event.DELETE if deleted else pb.Event.PUT
    return pb.Event(type=kind, kv=pb.KeyValue(key=key, mod_revision=revision, create_revision=revision, version=1))


def test_a_message_is_cut_by_revision_and_what_was_seen_is_dropped() -> None:
    response = pb.WatchResponse(events=[event(3, b"old"), event(4, b"a"), event(4, b"b", deleted=True), event(5, b"c")])
    first, second = watch_batches(response, next_revision=4)
    assert first == WatchBatch(
        revision=4,
        changes=(
            KeyValue(key="a", value=b"", create_revision=4, mod_revision=4, version=1),
            Deleted(key="b", mod_revision=4),
        ),
    )
    assert second.revision == 5


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (pb.WatchResponse(header=pb.ResponseHeader(revision=9)), [WatchBatch(revision=9)]),
        (pb.WatchResponse(header=pb.ResponseHeader(revision=3)), []),
        (pb.WatchResponse(header=pb.ResponseHeader(revision=9), created=True), []),
    ],
)
def test_only_a_notice_of_its_own_accord_is_progress(response: pb.WatchResponse, wanted: list[WatchBatch]) -> None:
    assert list(watch_batches(response, next_revision=4)) == wanted


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "https://host"])
def test_a_bad_address_is_named(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"10\.0\.0\.1:2379"):
        split_address(address)


def test_an_address_has_host_and_port() -> None:
    assert split_address("10.0.0.1:2379") == ("10.0.0.1", 2379)
    assert split_address("[fd00::1]:2379") == ("fd00::1", 2379)


class OneEndpoint:
    """Members of which each call fails as told, and then works."""

    def __init__(self, failure: CallFailed) -> None:
        self.failures = [failure]
        self.suspects = 0

    address = "one"

    def preferred(self) -> tuple[OneEndpoint, ...]:
        return (self,)

    def suspect(self, _endpoint: Endpoint) -> None:
        self.suspects += 1

    async def call(self, *_arguments: object, **_options: object) -> pb.TxnResponse:
        if self.failures:
            raise self.failures.pop()
        return pb.TxnResponse(succeeded=True)


def attempt(failure: CallFailed, *, is_repeatable: bool) -> pb.TxnResponse:
    """Make one call of which the first attempt fails so."""
    call = caller.Caller(OneEndpoint(failure), Timing()).call  # type: ignore[arg-type]
    return asyncio.run(call(calls.TXN, pb.TxnRequest(), is_repeatable=is_repeatable, timeout_s=1.0))


@pytest.mark.parametrize(
    "failure",
    [
        NotSent("refused"),
        Rejected("one", "etcdserver: no leader"),
        Rejected("one", "etcdserver: too many requests"),
        Rejected("one", "etcdserver: rpc not supported for learner"),
        Rejected("one", "raft proposal dropped"),
    ],
)
def test_what_was_certainly_not_taken_is_sent_again(failure: CallFailed) -> None:
    assert attempt(failure, is_repeatable=False).succeeded


@pytest.mark.parametrize(
    "failure",
    [
        Unanswered("silence"),
        Rejected("one", "etcdserver: request timed out"),
        Rejected("one", "etcdserver: request timed out, possibly due to previous leader failure"),
        Rejected("one", "etcdserver: leader changed"),
        Rejected("one", "etcdserver: server stopped"),
        Rejected("one", "an answer that nobody knows"),
    ],
)
def test_whatever_may_have_been_done_is_unknown_for_a_write_and_repeated_for_a_read(failure: CallFailed) -> None:
    with pytest.raises(StoreOutcomeUnknown):
        attempt(failure, is_repeatable=False)
    assert attempt(failure, is_repeatable=True).succeeded


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("etcdserver: requested lease not found", LeaseNotFound),
        ("etcdserver: mvcc: database space exceeded", StoreFull),
        ("etcdserver: unhealthy cluster", MemberChangeRefused),
        ("etcdserver: too many operations in txn request", InvalidInput),
    ],
)
def test_a_final_answer_ends_the_call(message: str, wanted: type[HoldfastError]) -> None:
    for is_repeatable in (False, True):
        with pytest.raises(wanted):
            attempt(Rejected("one", message), is_repeatable=is_repeatable)


def test_the_members_are_asked_for_as_of_now() -> None:
    """Field 1, as etcd 3.5 has it. Source: etcdserverpb `MemberListRequest`."""
    assert pb.MemberListRequest(linearizable=True).SerializeToString() == b"\x08\x01"
