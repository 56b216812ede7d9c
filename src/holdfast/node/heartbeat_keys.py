"""The secrets of this node's heartbeats: kept on its disk and in its codec as the database says.

Rule of the file: on disk first, then in use, then reported, so that a daemon that is killed anywhere here is understood
by the others, and understands them, as soon as it is back. A thread waits for the disk.
Source: docs/security.md, SAFE-6.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Final

from holdfast.membership.cluster_key import read_cluster_keys, write_cluster_keys
from holdfast.membership.heartbeat_codec import HeartbeatCodec
from holdfast.model.certificates import HeartbeatKey, HeartbeatKeys
from holdfast.model.errors import HoldfastError
from holdfast.node.mirror import Mirror

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


class KeyRing:
    """Follows the record of the secrets."""

    def __init__(self, *, codec: HeartbeatCodec, file: Path, mirror: Mirror) -> None:
        self._codec = codec
        self._file = file
        self._mirror = mirror
        self._keys = read_cluster_keys(file)
        codec.use_keys(self._keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """What this node accepts, durably; the one that it uses comes first."""
        return tuple(map(key_id, self._keys))

    @property
    def used(self) -> bytes:
        """The secret in use."""
        return self._keys[0]

    async def run(self) -> None:
        """Follow until cancelled."""
        changed = self._mirror.subscribe()
        while True:
            await changed.wait()
            changed.clear()
            snapshot = self._mirror.snapshot
            if snapshot is None or snapshot.heartbeat_keys is None:
                continue
            try:
                await self.follow(snapshot.heartbeat_keys.value)
            except HoldfastError as error:
                log.error("the key of the heartbeats cannot be changed here: %s", error)
                await asyncio.sleep(RETRY_S)
                changed.set()

    async def follow(self, wanted: HeartbeatKeys) -> None:
        """Have what is wanted on disk, then in the codec. Raises: FileNotWritten."""
        keys = in_order(wanted)
        if keys == self._keys:
            return
        await asyncio.to_thread(write_cluster_keys, keys, self._file)
        self._codec.use_keys(keys)
        self._keys = keys


def in_order(keys: HeartbeatKeys) -> tuple[bytes, ...]:
    """Return the secrets, the one in use first."""
    ordered = sorted(keys.accepted, key=lambda key: key.id != keys.used)
    return tuple(bytes.fromhex(key.secret_hex) for key in ordered)


def key_id(secret: bytes) -> str:
    """Return the name of a secret, from which it cannot be found."""
    return hashlib.sha256(b"holdfast key " + secret).hexdigest()[:16]


def named(secret: bytes) -> HeartbeatKey:
    """Return the secret as the database keeps it."""
    return HeartbeatKey(id=key_id(secret), secret_hex=secret.hex())
