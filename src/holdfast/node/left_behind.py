"""Taking a machine out of its cluster without losing what it kept of it.

Rule of the file: everything is copied or moved before `identity.json` goes, which goes first of what is forgotten; so a
machine that is killed here is in its cluster without its database, or in none, and never both. Source: docs/safety.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.membership.atomic_file import rename_durably, write_durably
from holdfast.node.config import DaemonConfig
from holdfast.node.residence import end_member, forget_cluster

PREFIX: Final = "left-behind-"
FORGOTTEN: Final = "forgotten-"


async def set_aside(config: DaemonConfig, generation: int) -> Path:
    """Be in no cluster any more, and keep all that was there in a folder of its own. Raises: FileNotWritten."""
    return await _keep_in(config.state_directory / f"{PREFIX}{generation}", config)


async def set_forgotten_aside(config: DaemonConfig, node_id: str) -> Path:
    """The same for a machine that its cluster took out: it may have been in the same generation more than once."""
    return await _keep_in(config.state_directory / f"{FORGOTTEN}{node_id}", config)


async def _keep_in(folder: Path, config: DaemonConfig) -> Path:
    for file in (config.identity, config.cluster_key, config.seat, *sorted(config.keys.glob("*"))):
        if file.is_file():
            write_durably(folder / file.relative_to(config.state_directory), file.read_bytes())
    await end_member(config)
    if config.database.exists():
        rename_durably(config.database, folder / config.database.name)
    await forget_cluster(config)
    return folder


def kept_of_another_generation(config: DaemonConfig) -> Path | None:
    """The newest folder of what was set aside here; None: there is none."""
    return max(config.state_directory.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime, default=None)
