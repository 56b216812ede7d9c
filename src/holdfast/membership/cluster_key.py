"""The secret that all nodes of a cluster share, and from which the keys of their heartbeats are derived."""

from __future__ import annotations

from pathlib import Path
from secrets import token_bytes

from holdfast.membership.atomic_file import write_durably
from holdfast.membership.errors import IdentityInvalid

CLUSTER_KEY_PATH = Path("/var/lib/holdfast/cluster.key")
CLUSTER_KEY_BYTES = 32


def create_cluster_key() -> bytes:
    """A new secret."""
    return token_bytes(CLUSTER_KEY_BYTES)


def write_cluster_key(key: bytes, path: Path = CLUSTER_KEY_PATH) -> None:
    """Keep the secret, readable by root only.

    Raises:
        FileNotWritten: see `write_durably`.
    """
    write_cluster_keys((key,), path)


def write_cluster_keys(keys: tuple[bytes, ...], path: Path = CLUSTER_KEY_PATH) -> None:
    """Keep the secrets that are accepted, one per line, the one in use first.

    Raises:
        FileNotWritten: see `write_durably`.
    """
    write_durably(path, b"".join(key.hex().encode() + b"\n" for key in keys))


def read_cluster_key(path: Path = CLUSTER_KEY_PATH) -> bytes:
    """The secret in use.

    Raises:
        IdentityInvalid: the file is missing, unreadable or damaged. Its content is never shown.
    """
    return read_cluster_keys(path)[0]


def read_cluster_keys(path: Path = CLUSTER_KEY_PATH) -> tuple[bytes, ...]:
    """The secrets that are accepted, the one in use first: more than one while they are being changed.

    Raises:
        IdentityInvalid: the file is missing, unreadable or damaged. Its content is never shown.
    """
    hint = "copy it from another node of this cluster, or remove the node and join again"
    try:
        keys = tuple(bytes.fromhex(line) for line in path.read_text("ascii").strip().splitlines() or ("",))
    except OSError as error:
        raise IdentityInvalid(f"cannot read the cluster key {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise IdentityInvalid(f"the cluster key {path} is not hexadecimal", hint=hint) from error
    for key in keys:
        if len(key) != CLUSTER_KEY_BYTES:
            raise IdentityInvalid(f"the cluster key {path} has {len(key)} bytes, not {CLUSTER_KEY_BYTES}", hint=hint)
    return keys
