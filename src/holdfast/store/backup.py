"""A backup of the cluster database as one file: every lasting record at one revision, and what proves it whole.

Rule of the file: pure; a backup is read completely or not at all. It is text, so that a person can read it, and tied to
no version of etcd. It holds the cluster's secrets.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from holdfast.model.errors import InvalidInput
from holdfast.store.port import KeyValue, Listing
from holdfast.store.records import CLUSTER, RECORD_TYPES, ROOT, RecordUnreadable, decode

FORMAT: Final = 1


class BackupDamaged(InvalidInput):
    """A file is no backup, or not all of one."""

    code = "backup-damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The database at one revision.

    generation        of the cluster when it was taken.
    node              who took it.
    taken_at_ms       wall clock.
    cluster_key_hex   the secret of the heartbeats: with it the restored cluster can tell those left behind.
    items             the records by key; what hangs on a lease (sessions, reports, the coordinator) is left out.
    """

    cluster_id: str
    cluster_name: str
    generation: int
    node: str
    taken_at_ms: int
    revision: int
    cluster_key_hex: str
    items: tuple[tuple[str, bytes], ...]


def lasting(listing: Listing) -> tuple[tuple[str, bytes], ...]:
    """The records of a listing that no lease ends."""
    return tuple((item.key, item.value) for item in listing.items if _lasts(item))


def _lasts(item: KeyValue) -> bool:
    return not item.lease and item.key.startswith(ROOT)


def encode_backup(backup: Backup) -> bytes:
    """Return the file: a line that says what it is, a line per record, and a line with the digest of all before."""
    head = {
        "format": FORMAT,
        "cluster_id": backup.cluster_id,
        "cluster_name": backup.cluster_name,
        "generation": backup.generation,
        "node": backup.node,
        "taken_at_ms": backup.taken_at_ms,
        "revision": backup.revision,
        "cluster_key_hex": backup.cluster_key_hex,
        "records": len(backup.items),
    }
    lines = [head, *({"key": key, "value": base64.b64encode(value).decode()} for key, value in backup.items)]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


def decode_backup(content: bytes, source: str) -> Backup:
    """Return the backup, if it is whole and every record in it can be read. `source` names the file in errors.

    Raises: BackupDamaged.
    """
    body, digest = _split(content, source)
    if digest != hashlib.sha256(body).hexdigest():
        raise _damaged(source, "its digest does not match: it was cut off or changed")
    try:
        head, *lines = (json.loads(line) for line in body.splitlines())
        backup = _backup(head, lines)
        is_known = head["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(source, f"it is not laid out as a backup ({error!r})") from error
    if not is_known:
        raise _damaged(source, f"its format is {head['format']}; this version reads {FORMAT}")
    if head["records"] != len(backup.items):
        raise _damaged(source, f"it has {len(backup.items)} records and says {head['records']}")
    _check_records(backup, source)
    return backup


def _split(content: bytes, source: str) -> tuple[bytes, str]:
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    try:
        return content[:end], str(json.loads(content[end:])["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(source, "its last line, the digest, is missing") from error


def _backup(head: dict[str, Any], lines: Iterable[dict[str, Any]]) -> Backup:
    return Backup(
        cluster_id=str(head["cluster_id"]),
        cluster_name=str(head["cluster_name"]),
        generation=int(head["generation"]),
        node=str(head["node"]),
        taken_at_ms=int(head["taken_at_ms"]),
        revision=int(head["revision"]),
        cluster_key_hex=str(head["cluster_key_hex"]),
        items=tuple((str(line["key"]), base64.b64decode(line["value"], validate=True)) for line in lines),
    )


def _check_records(backup: Backup, source: str) -> None:
    keys = [key for key, _ in backup.items]
    if CLUSTER not in keys or len(set(keys)) != len(keys):
        raise _damaged(source, "the record of the cluster is missing, or a record is there twice")
    try:
        for key, value in backup.items:
            kind = RECORD_TYPES.get(key) or RECORD_TYPES.get(key[: key.find("/", len(ROOT)) + 1])
            record = None if kind is None else decode(kind, key, value)
            if key == CLUSTER and (record is None or record.id != backup.cluster_id):
                raise _damaged(source, "it says to be of one cluster and holds the record of another")
    except RecordUnreadable as error:
        raise _damaged(source, error.message) from error


def _damaged(source: str, what: str) -> BackupDamaged:
    return BackupDamaged(f"{source} cannot be restored: {what}", hint="take another backup: holdfast backup list")
