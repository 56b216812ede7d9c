"""Backups of the cluster database: taken on time by every voter, kept in bounds, read back before they count.

Rule of the file: a backup gets its name only when it was read back whole from the disk. Its content is secret: whoever
has it reads the whole database and can forge heartbeats. Source: docs/database.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from holdfast.membership.atomic_file import rename_durably, write_durably
from holdfast.membership.cluster_key import read_cluster_key
from holdfast.membership.errors import FileNotWritten
from holdfast.membership.identity import NodeIdentity
from holdfast.model.backups import BackupInfo
from holdfast.model.errors import HoldfastError, NotFound
from holdfast.model.ids import NodeName, RoleName
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.mirror import Mirror
from holdfast.store.backup import Backup, BackupDamaged, decode_backup, encode_backup, lasting
from holdfast.store.port import Listing, Store
from holdfast.store.records import NODES, ROOT, SPECS

log = logging.getLogger(__name__)

LOOK_S: Final = 30.0
READ_S: Final = 30.0
SUFFIX: Final = ".backup"


class Backups:
    """Takes this node's backups while it votes. `conditions` says when they fail."""

    def __init__(
        self, *, config: DaemonConfig, identity: NodeIdentity, store: Store, mirror: Mirror, clock: Clock
    ) -> None:
        self._config = config
        self._identity = identity
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._problem: HoldfastError | None = None

    async def run(self) -> None:
        """Take a backup whenever the newest one is old enough, until cancelled."""
        await self._mirror.subscribe().wait()
        while True:
            await self.keep_up(self._mirror.snapshot or Snapshot())
            await asyncio.sleep(LOOK_S)

    async def keep_up(self, snapshot: Snapshot) -> None:
        """Take a backup if one is due, and drop what is too many; what fails is a condition until it works again."""
        try:
            await self._take_if_due(snapshot)
            self._problem = None
        except OSError as error:
            self._problem = FileNotWritten(f"{error.filename}: {error.strerror}", hint="check the disk and its mount")
        except HoldfastError as error:
            self._problem = error
        if self._problem is not None:
            log.error("no backup: %s", self._problem.message)

    def conditions(self) -> tuple[Condition, ...]:
        """Say that backups fail, and what to do."""
        if self._problem is None:
            return ()
        me, problem = self._identity.node, self._problem
        text = f"{me}: the cluster database is not backed up: {problem.message}; {problem.hint or 'it tries again'}"
        return (Condition(code="backup-failed", subject=me, text=text),)

    async def create(self, path: Path | None = None) -> BackupInfo:
        """Take one now. `path` None: among the others. Raises: Unavailable, FileNotWritten, BackupDamaged."""
        return await self.keep(await self._store.list(ROOT, timeout_s=READ_S), path)

    async def keep(self, listing: Listing, path: Path | None = None) -> BackupInfo:
        """Write what the database holds as a backup. Raises: FileNotWritten, BackupDamaged."""
        backup = Backup(
            cluster_id=self._identity.cluster_id,
            cluster_name=self._identity.cluster_name,
            generation=self._identity.generation,
            node=self._identity.node,
            taken_at_ms=self._clock.wall_ms(),
            revision=listing.revision,
            cluster_key_hex=read_cluster_key(self._config.cluster_key).hex(),
            items=lasting(listing),
        )
        target = path or self._config.backups / file_name(backup)
        return await asyncio.to_thread(_write_checked, backup, target)

    async def _take_if_due(self, snapshot: Snapshot) -> None:
        me = snapshot.nodes.get(self._identity.node)
        if me is None or not me.value.is_voter:
            return
        kept = _files(self._config.backups)
        newest_ms = kept[-1].stat().st_mtime * 1000 if kept else 0.0
        age_ms = self._clock.wall_ms() - newest_ms
        if not 0 <= age_ms < snapshot.settings.backup_interval_s * 1000:
            await self.create()
        for surplus in _files(self._config.backups)[: -snapshot.settings.backups_kept]:
            surplus.unlink(missing_ok=True)


def file_name(backup: Backup) -> str:
    """A name that sorts by time."""
    taken = datetime.fromtimestamp(backup.taken_at_ms / 1000, UTC)
    return f"{taken:%Y%m%dT%H%M%S.%f}Z-r{backup.revision}{SUFFIX}"


def list_backups(directory: Path) -> tuple[BackupInfo, ...]:
    """What lies there, oldest first; one that is damaged says so."""
    return tuple(_looked_at(path) for path in _files(directory))


def read_backup(path: Path) -> Backup:
    """Return a backup that is whole. Raises: NotFound, BackupDamaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", hint="see what there is: holdfast backup list") from error
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read: {error.strerror}", hint="check the disk and the mode") from error
    return decode_backup(content, str(path))


def describe(backup: Backup, path: Path) -> BackupInfo:
    """Say what is in a backup."""
    return BackupInfo(
        path=str(path),
        bytes=path.stat().st_size,
        cluster=backup.cluster_name,
        generation=backup.generation,
        revision=backup.revision,
        taken_by=backup.node,
        taken_at_ms=backup.taken_at_ms,
        records=len(backup.items),
        nodes=tuple(NodeName(name) for name in _names(backup, NODES)),
        roles=tuple(RoleName(name) for name in _names(backup, SPECS)),
    )


def verify(path: Path) -> BackupInfo:
    """Read a backup completely and say what is in it. Raises: NotFound, BackupDamaged."""
    return describe(read_backup(path), path)


def _names(backup: Backup, prefix: str) -> Iterator[str]:
    return (key.removeprefix(prefix) for key, _ in backup.items if key.startswith(prefix))


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{SUFFIX}"))


def _looked_at(path: Path) -> BackupInfo:
    try:
        return verify(path)
    except HoldfastError as error:
        return BackupInfo(path=str(path), problem=error.message)


def _write_checked(backup: Backup, path: Path) -> BackupInfo:
    """Write it under another name, read it back, and only then give it its own."""
    content = encode_backup(backup)
    scratch = path.with_name(f".{path.name}.new")
    try:
        write_durably(scratch, content)
        if read_backup(scratch) != backup:
            raise BackupDamaged(f"{path} was read back otherwise than it was written", hint="check the disk")
        rename_durably(scratch, path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return describe(backup, path)
