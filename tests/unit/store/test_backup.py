"""A backup is read completely or refused: cut off, changed, of another cluster, or with a record nobody can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import ClusterId
from holdfast.model.snapshot import ClusterRecord
from holdfast.store.backup import Backup, BackupDamaged, decode_backup, encode_backup, lasting
from holdfast.store.memory import MemoryStore
from holdfast.store.port import Put, Txn
from holdfast.store.records import CLUSTER, ROOT, SESSIONS, encode

CLUSTER_ID = "6a3f0f5e-0000-4000-8000-000000000001"


def backup(*items: tuple[str, bytes], cluster: str = CLUSTER_ID) -> Backup:
    record = ClusterRecord(id=ClusterId(cluster), name="demo", created_at_ms=1)
    return Backup(
        cluster_id=CLUSTER_ID,
        cluster_name="demo",
        generation=1,
        node="a",
        taken_at_ms=1_700_000_000_000,
        revision=42,
        cluster_key_hex="00" * 32,
        items=((CLUSTER, encode(record)), *items),
    )


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_what_is_written_is_read(values: list[bytes]) -> None:
    whole = backup(*((f"{ROOT}unknown/{index}", value) for index, value in enumerate(values)))
    assert decode_backup(encode_backup(whole), "file") == whole


def test_cut_off_anywhere_it_is_refused() -> None:
    content = encode_backup(backup((f"{ROOT}unknown/x", b"value")))
    for length in range(0, len(content) - 1, 5):
        with pytest.raises(BackupDamaged, match="cannot be restored"):
            decode_backup(content[:length], "file")


def test_changed_anywhere_it_is_refused() -> None:
    content = encode_backup(backup((f"{ROOT}unknown/x", b"value")))
    for index in range(0, len(content) - 1, 5):
        changed = bytearray(content)
        changed[index] ^= 1
        with pytest.raises(BackupDamaged):
            decode_backup(bytes(changed), "file")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (backup(cluster="6a3f0f5e-0000-4000-8000-000000000002"), "another"),
        (backup((CLUSTER, b"{}")), "twice"),
        (backup((f"{ROOT}ownerships/web", b'{"role": 1}')), "no valid Ownership"),
    ],
    ids=["other-cluster", "record-twice", "record-unreadable"],
)
def test_what_is_whole_and_makes_no_sense_is_refused(wrong: Backup, said: str) -> None:
    with pytest.raises(BackupDamaged, match=said):
        decode_backup(encode_backup(wrong), "file")


async def test_what_hangs_on_a_lease_is_left_out() -> None:
    store = MemoryStore()
    lease = await store.grant(10)
    await store.txn(Txn(then=(Put(CLUSTER, b"1"), Put(f"{SESSIONS}a", b"2", lease=lease))))
    assert lasting(await store.list(ROOT)) == ((CLUSTER, b"1"),)
