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
    write_durably(path, key.hex().encode() + b"\n")


def read_cluster_key(path: Path = CLUSTER_KEY_PATH) -> bytes:
    """The secret.

    Raises:
        IdentityInvalid: the file is missing, unreadable or damaged. Its content is never shown.
    """
    hint = "copy it from another node of this cluster, or remove the node and join again"
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise IdentityInvalid(f"cannot read the cluster key {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise IdentityInvalid(f"the cluster key {path} is not hexadecimal", hint=hint) from error
    if len(key) != CLUSTER_KEY_BYTES:
        raise IdentityInvalid(f"the cluster key {path} has {len(key)} bytes, not {CLUSTER_KEY_BYTES}", hint=hint)
    return key
