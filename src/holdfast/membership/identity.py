"""Who this node is, on its own disk: its place in the cluster, and which start of the machine this is.

Rule of the file: a damaged file is an error and never a fresh start: a node that forgets who it is could start what it
already runs under another name.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from holdfast.membership.atomic_file import write_durably
from holdfast.membership.errors import IdentityInvalid, NotJoined
from holdfast.model.ids import ClusterId, Incarnation, NetworkName, NodeName

IDENTITY_PATH = Path("/var/lib/holdfast/identity.json")
INCARNATION_PATH = Path("/run/holdfast/incarnation")
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


def _require_ip(text: str) -> str:
    return str(ip_address(text))


def _require_uuid(text: str) -> str:
    return str(UUID(text))


IpText = Annotated[str, AfterValidator(_require_ip)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Ports(_Strict):
    """Where a node listens, on all its addresses."""

    heartbeat: Port = 7405
    join: Port = 7406
    etcd_client: Port = 2379
    etcd_peer: Port = 2380


class Peer(_Strict):
    """Another node as it was last known: enough to find the cluster again after everything was switched off."""

    node: NodeName
    addresses: dict[NetworkName, IpText]
    ports: Ports = Ports()
    is_voter: bool


class NodeIdentity(_Strict):
    """This node's place in its cluster. Networks are in order of preference.

    generation   of the cluster: it grows when its database is restored, and who has an older one is left behind.
    """

    format: Literal[1] = 1
    cluster_id: Annotated[ClusterId, AfterValidator(_require_uuid)]
    cluster_name: Annotated[str, Field(min_length=1)]
    node: Annotated[NodeName, Field(min_length=1)]
    node_id: Annotated[str, AfterValidator(_require_uuid)]
    addresses: Annotated[dict[NetworkName, IpText], Field(min_length=1)]
    ports: Ports = Ports()
    is_voter: bool
    peers: tuple[Peer, ...] = ()
    generation: Annotated[int, Field(ge=1)] = 1


def read_identity(path: Path = IDENTITY_PATH) -> NodeIdentity:
    """Who this node is.

    Raises:
        NotJoined: there is no such file.
        IdentityInvalid: it cannot be read or says nonsense; the message lists all that is wrong with it.
    """
    try:
        return NodeIdentity.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NotJoined(
            f"this machine is not part of a cluster: there is no {path}",
            hint="holdfast cluster create, or holdfast node join TOKEN",
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise IdentityInvalid(f"{path} is damaged: {faults}", hint="restore it from a backup") from error
    except OSError as error:
        raise IdentityInvalid(f"cannot read {path}: {error.strerror}", hint="run as root") from error


def write_identity(identity: NodeIdentity, path: Path = IDENTITY_PATH) -> None:
    """Keep who this node is.

    Raises:
        FileNotWritten: see `write_durably`.
    """
    write_durably(path, identity.model_dump_json(indent=2).encode() + b"\n")


def read_boot_id(path: Path = BOOT_ID_PATH) -> str:
    """The kernel's id of this start of the machine. Source: random(4)."""
    return path.read_text().strip()


def _new_incarnation() -> Incarnation:
    return Incarnation(str(uuid4()))


class IncarnationFile:
    """The id of this start of this machine: the same for every daemon until the machine starts again.

    It lies in /run, which a start empties; the kernel's boot id in it catches a /run that was kept. Source: DESIGN 2.
    """

    def __init__(
        self,
        boot_id: str,
        path: Path = INCARNATION_PATH,
        new_incarnation: Callable[[], Incarnation] = _new_incarnation,
    ) -> None:
        self._boot_id = boot_id
        self._path = path
        self._new_incarnation = new_incarnation

    def load_or_create(self) -> Incarnation:
        """This start's incarnation.

        Raises:
            IdentityInvalid: the file is there and damaged.
            FileNotWritten: see `write_durably`.
        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return self.replace()
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error
        try:
            incarnation, boot_id = text.split()
            known = Incarnation(_require_uuid(incarnation))
        except ValueError as error:
            raise self._damaged(f"{text[:80]!r} is not an incarnation and a boot id") from error
        return known if boot_id == self._boot_id else self.replace()

    def replace(self) -> Incarnation:
        """Become another incarnation, as if the machine had started again.

        Only for a node that was fenced, whose guests are all stopped and whose storage is let go of. Source: SAFE-1.

        Raises:
            FileNotWritten: see `write_durably`.
        """
        incarnation = self._new_incarnation()
        write_durably(self._path, f"{incarnation} {self._boot_id}\n".encode())
        return incarnation

    def _damaged(self, what: str) -> IdentityInvalid:
        return IdentityInvalid(
            f"{self._path} is damaged: {what}",
            hint="restart the machine; or stop all its cluster guests, delete the file and start holdfastd again",
        )
