"""Where holdfastd keeps its things on this machine, and what may be told to it before it is in a cluster.

Everything else is a setting of the cluster, kept in its database.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.model.errors import InvalidInput

CONFIG_PATH = Path("/etc/holdfast/holdfast.toml")


class DaemonConfig(BaseModel):
    """The settings of one machine, from `/etc/holdfast/holdfast.toml`; every one has a default.

    state_directory   survives restarts of the machine: identity, keys, the database's data.
    run_directory     is emptied by a restart of the machine: sockets, the incarnation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_directory: Path = Path("/var/lib/holdfast")
    run_directory: Path = Path("/run/holdfast")
    log_directory: Path = Path("/var/log/holdfast")
    libvirt_uri: str = "qemu:///system"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def socket(self) -> Path:
        """Where the CLI speaks to holdfastd."""
        return self.run_directory / "holdfastd.sock"

    @property
    def guard_socket(self) -> Path:
        """Where holdfastd speaks to the guard."""
        return self.run_directory / "guard.sock"

    @property
    def identity(self) -> Path:
        """Who this node is; written last, so that its presence means: in a cluster."""
        return self.state_directory / "identity.json"

    @property
    def keys(self) -> Path:
        """Certificates and their keys."""
        return self.state_directory / "pki"

    @property
    def seat(self) -> Path:
        """Which member of the cluster database this machine holds data for."""
        return self.state_directory / "seat.json"

    @property
    def cluster_key(self) -> Path:
        """The secret of the heartbeats."""
        return self.state_directory / "cluster.key"

    @property
    def database(self) -> Path:
        """The data of this node's member of the cluster database."""
        return self.state_directory / "etcd"

    @property
    def backups(self) -> Path:
        """Backups of the cluster database, as secret as the database."""
        return self.state_directory / "backups"


def read_config(path: Path = CONFIG_PATH) -> DaemonConfig:
    """Read the file; without one the defaults hold. Raises: InvalidInput naming every wrong key."""
    try:
        return DaemonConfig.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        return DaemonConfig()
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", hint="correct the line it names") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidInput(f"{path}: {faults}", hint="docs/configuration.md lists the keys") from error
