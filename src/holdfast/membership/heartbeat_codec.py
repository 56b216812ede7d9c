"""Heartbeats as datagrams: authenticated, secret, and bound to cluster, incarnation, network and sequence.

Rule of the file: `decode` answers every possible datagram with a value and never raises; one key and nonce never
protect two different messages. The layout is drawn in docs/membership.md. Source: DESIGN section 5; RFC 8439, RFC 5869.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.membership.errors import HeartbeatTooLarge
from holdfast.membership.heartbeat import Heard, Heartbeat, Reject, RejectReason
from holdfast.model.errors import InvalidInput
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName

PROTOCOL_VERSION = 1

_MAGIC = b"HF"
_HEADER = struct.Struct("!2sBx8s16s4sQ")  # magic, version, cluster tag, incarnation, network tag, sequence
_NONCE = slice(28, 40)  # network tag and sequence, as they stand in the header
_TAG_BYTES = 16
_FIXED = struct.Struct("!QQBBBB")  # sent_at_ms, wall_clock_ms, flags, counts of refused, networks and heard nodes
_HEARD_NODE = struct.Struct("!16sB")  # incarnation, count of networks; the name follows
_GENERATION = struct.Struct("!Q")  # only after a restore; without it the generation is the first
_HEARD_ENTRY = struct.Struct("!BQI")  # index of the network, sequence, age_ms
_QUORATE, _STOPPING = 1, 2
_MAX_AGE_MS = 2**32 - 1
_MAX_KEYS = 256


def network_tags(networks: Iterable[NetworkName]) -> dict[NetworkName, bytes]:
    """What stands for each network on the wire. Raises: InvalidInput when two cannot be told apart."""
    tags = {name: hashlib.sha256(name.encode()).digest()[:4] for name in networks}
    if len(set(tags.values())) < len(tags):
        raise InvalidInput(
            f"two of the networks {', '.join(sorted(tags))} have the same tag on the wire", hint="rename one of them"
        )
    return tags


class HeartbeatCodec:
    """Turns heartbeats of one cluster into datagrams and back.

    A key per incarnation is derived from the cluster key, so that no two nodes and no two starts of a machine share a
    key; the nonce is network and sequence, so that within an incarnation no nonce comes twice. Keys of incarnations
    are kept only after a datagram proved them: a flood of invented incarnations cannot push out real ones.
    """

    def __init__(self, *, cluster_id: ClusterId, cluster_key: bytes, networks: Iterable[NetworkName]) -> None:
        self._cluster_id = cluster_id
        self._keys: tuple[bytes, ...] = (cluster_key,)
        self._cluster_tag = hashlib.sha256(cluster_id.encode()).digest()[:8]
        self._network_tags: dict[NetworkName, bytes] = {}
        self._network_names: dict[bytes, NetworkName] = {}
        self.use_networks(networks)
        self._ciphers: dict[bytes, ChaCha20Poly1305] = {}
        self._own: tuple[bytes, ChaCha20Poly1305] | None = None
        self._last_encoded: dict[tuple[Incarnation, NetworkName], int] = {}
        self._last_packed: tuple[Heartbeat, bytes] | None = None

    @property
    def used(self) -> bytes:
        """The cluster key that heartbeats are made with."""
        return self._keys[0]

    def use_networks(self, networks: Iterable[NetworkName]) -> None:
        """Make and understand heartbeats of these networks from now on. Raises: InvalidInput."""
        tags = network_tags(networks)
        self._network_tags, self._network_names = tags, {tag: name for name, tag in tags.items()}

    def use_keys(self, keys: tuple[bytes, ...]) -> None:
        """Make heartbeats with the first of these cluster keys from now on, and understand those made with any."""
        self._keys = keys
        self._ciphers.clear()
        self._own = None

    def encode(self, heartbeat: Heartbeat, network: NetworkName) -> bytes:
        """The datagram for this network, the same for all peers on it.

        Raises:
            HeartbeatTooLarge: more than 255 peers, networks or refusals, or a name over 255 bytes.
            ValueError: a heartbeat of another cluster, or a sequence that does not exceed the one encoded before (the
                nonce would come twice).
        """
        if heartbeat.cluster_id != self._cluster_id:
            raise ValueError(f"heartbeat of cluster {heartbeat.cluster_id}, codec of cluster {self._cluster_id}")
        sender = (heartbeat.incarnation, network)
        if heartbeat.sequence <= self._last_encoded.get(sender, -1):
            raise ValueError(f"sequence {heartbeat.sequence} was used already on network {network}")
        if self._last_packed is None or self._last_packed[0] is not heartbeat:
            self._last_packed = heartbeat, _pack_payload(heartbeat)
        payload = self._last_packed[1]
        incarnation = _incarnation_bytes(heartbeat.incarnation)
        tag = self._network_tags[network]
        header = _HEADER.pack(_MAGIC, PROTOCOL_VERSION, self._cluster_tag, incarnation, tag, heartbeat.sequence)
        if self._own is None or self._own[0] != incarnation:
            self._own = incarnation, self._derive(incarnation, self._keys[0])
        self._last_encoded[sender] = heartbeat.sequence
        return header + self._own[1].encrypt(header[_NONCE], payload, header)

    def decode(self, datagram: bytes, network: NetworkName) -> Heartbeat | Reject:
        """The heartbeat that arrived on this network, or why it is none. Replays are the `ReplayWindow`'s business."""
        if len(datagram) < _HEADER.size + _TAG_BYTES or not datagram.startswith(_MAGIC):
            return Reject(
                reason=RejectReason.NOT_A_HEARTBEAT, text=f"{len(datagram)} bytes that are no Holdfast heartbeat"
            )
        header = datagram[: _HEADER.size]
        _, version, cluster_tag, incarnation, network_tag, sequence = _HEADER.unpack(header)
        if version != PROTOCOL_VERSION:
            return Reject(
                reason=RejectReason.OTHER_VERSION,
                text=f"heartbeat of protocol version {version}; this node speaks version {PROTOCOL_VERSION}",
            )
        if cluster_tag != self._cluster_tag:
            return Reject(reason=RejectReason.OTHER_CLUSTER, text="heartbeat of another cluster")
        payload = self._open(header, incarnation, datagram[_HEADER.size :])
        if payload is None:
            return Reject(
                reason=RejectReason.WRONG_KEY, text="heartbeat not made with this cluster's key, or damaged on the way"
            )
        if network_tag != self._network_tags[network]:
            name = self._network_names.get(network_tag, "unknown to this node")
            return Reject(
                reason=RejectReason.WRONG_NETWORK, text=f"heartbeat for network {name} arrived on network {network}"
            )
        try:
            return self._unpack(incarnation, sequence, payload)
        except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
            return Reject(reason=RejectReason.MALFORMED, text=f"authentic heartbeat that cannot be read: {error}")

    def _open(self, header: bytes, incarnation: bytes, sealed: bytes) -> bytes | None:
        known = self._ciphers.get(incarnation)
        payload = _opened(known, header, sealed) if known is not None else None
        if payload is not None or (known is not None and len(self._keys) == 1):
            return payload
        for cluster_key in self._keys:
            cipher = self._derive(incarnation, cluster_key)
            payload = _opened(cipher, header, sealed)
            if payload is not None:
                self._remember(incarnation, cipher)
                return payload
        return None

    def _derive(self, incarnation: bytes, cluster_key: bytes) -> ChaCha20Poly1305:
        info = b"holdfast heartbeat 1 " + incarnation
        key = HKDF(algorithm=SHA256(), length=32, salt=self._cluster_id.encode(), info=info).derive(cluster_key)
        return ChaCha20Poly1305(key)

    def _remember(self, incarnation: bytes, cipher: ChaCha20Poly1305) -> None:
        if len(self._ciphers) >= _MAX_KEYS:
            del self._ciphers[next(iter(self._ciphers))]
        self._ciphers[incarnation] = cipher

    def _unpack(self, incarnation: bytes, sequence: int, payload: bytes) -> Heartbeat:
        reader = _Reader(payload)
        sent_at_ms, wall_clock_ms, flags, refused_count, network_count, node_count = reader.take(_FIXED)
        node = reader.text()
        refused = tuple(_incarnation_text(reader.raw(16)) for _ in range(refused_count))
        networks = [NetworkName(reader.text()) for _ in range(network_count)]
        heard = tuple(entry for _ in range(node_count) for entry in _unpack_heard(reader, networks))
        generation = 1 if reader.is_at_end else reader.take(_GENERATION)[0]
        reader.expect_end()
        return Heartbeat(
            cluster_id=self._cluster_id,
            node=NodeName(node),
            incarnation=_incarnation_text(incarnation),
            sequence=sequence,
            sent_at_ms=sent_at_ms,
            wall_clock_ms=wall_clock_ms,
            heard=heard,
            refused=refused,
            quorate=bool(flags & _QUORATE),
            stopping=bool(flags & _STOPPING),
            generation=generation,
        )


def _opened(cipher: ChaCha20Poly1305, header: bytes, sealed: bytes) -> bytes | None:
    """What was sealed; None: with another key, or damaged."""
    try:
        return cipher.decrypt(header[_NONCE], sealed, header)
    except InvalidTag:
        return None


def _pack_payload(heartbeat: Heartbeat) -> bytes:
    networks = list(dict.fromkeys(heard.network for heard in heartbeat.heard))
    nodes = [(key, list(entries)) for key, entries in groupby(heartbeat.heard, key=lambda h: (h.incarnation, h.node))]
    _check_counts(refusals=len(heartbeat.refused), networks=len(networks), peers=len(nodes))
    flags = (_QUORATE if heartbeat.quorate else 0) | (_STOPPING if heartbeat.stopping else 0)
    parts = [
        _FIXED.pack(
            heartbeat.sent_at_ms, heartbeat.wall_clock_ms, flags, len(heartbeat.refused), len(networks), len(nodes)
        ),
        _text_bytes(heartbeat.node),
        *(_incarnation_bytes(incarnation) for incarnation in heartbeat.refused),
        *(_text_bytes(network) for network in networks),
    ]
    index = {network: position for position, network in enumerate(networks)}
    for (incarnation, node), entries in nodes:
        _check_counts(networks=len(entries))
        parts.append(_HEARD_NODE.pack(_incarnation_bytes(incarnation), len(entries)))
        parts.append(_text_bytes(node))
        parts.extend(_HEARD_ENTRY.pack(index[h.network], h.sequence, min(h.age_ms, _MAX_AGE_MS)) for h in entries)
    if heartbeat.generation != 1:
        parts.append(_GENERATION.pack(heartbeat.generation))
    return b"".join(parts)


def _check_counts(**counts: int) -> None:
    for what, count in counts.items():
        if count > 255:
            raise HeartbeatTooLarge(f"{count} {what} in a heartbeat; it holds 255", hint="use fewer nodes or networks")


def _unpack_heard(reader: _Reader, networks: list[NetworkName]) -> list[Heard]:
    raw, count = reader.take(_HEARD_NODE)
    incarnation, node = _incarnation_text(raw), NodeName(reader.text())
    heard = []
    for _ in range(count):
        index, sequence, age_ms = reader.take(_HEARD_ENTRY)
        heard.append(
            Heard(node=node, incarnation=incarnation, network=networks[index], sequence=sequence, age_ms=age_ms)
        )
    return heard


class _Reader:
    """Takes parts off a payload in order. Raises struct.error or ValueError where the payload is too short or long."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._data, self._position)
        self._position += layout.size
        return values

    def raw(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise ValueError("it ends too early")
        return self._data[start : self._position]

    def text(self) -> str:
        return self.raw(self.raw(1)[0]).decode()

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._data)

    def expect_end(self) -> None:
        if self._position != len(self._data):
            raise ValueError(f"{len(self._data) - self._position} bytes too many")


@lru_cache(maxsize=1024)
def _text_bytes(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise HeartbeatTooLarge(f"the name {text[:40]!r}… has {len(data)} bytes; 255 are allowed", hint="shorten it")
    return bytes((len(data),)) + data


@lru_cache(maxsize=1024)
def _incarnation_bytes(incarnation: Incarnation) -> bytes:
    data = bytes.fromhex(incarnation.replace("-", ""))
    if len(data) != 16:
        raise ValueError(f"incarnation {incarnation!r} is not a UUID")
    return data


@lru_cache(maxsize=1024)
def _incarnation_text(data: bytes) -> Incarnation:
    text = data.hex()
    return Incarnation(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
