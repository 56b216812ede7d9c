"""`certificate.list` and `certificate.renew`: what is known of the nodes' certificates, and new ones.

Rule of the file: a person's wish is a mark in the record of a node; the node itself sees to the rest, also when it
starts later. Source: docs/security.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from holdfast.model.errors import Unavailable
from holdfast.model.ids import NodeName
from holdfast.model.snapshot import Snapshot
from holdfast.model.status import CertificateStatus, Progress
from holdfast.node.commits import Commits, wait_change
from holdfast.node.line_protocol import Result
from holdfast.node.record_changes import find_node
from holdfast.node.request_params import NoParams, RenewParams
from holdfast.store.port import ModRevision, Put, Txn
from holdfast.store.records import certificates_key, encode

RENEW_WAIT_S: Final = 60.0


class CertificateRequests:
    """Answers what is asked about certificates."""

    methods: Final = frozenset(("certificate.list", "certificate.renew"))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer: steps, then one line per node."""
        assert method in self.methods
        snapshot = await self._commits.snapshot()
        if method == "certificate.list":
            NoParams.model_validate(params)
            yield Result(statuses(snapshot))
            return
        wanted = RenewParams.model_validate(params)
        names = sorted(snapshot.nodes) if wanted.node is None else [find_node(snapshot, wanted.node).value.name]
        marked = [name for name in names if await self._commits.change(partial(_mark, node=name))]
        async for step in self._follow(marked):
            yield step
        after = await self._commits.snapshot()
        yield Result([status for status in statuses(after) if status.node in names])

    async def _follow(self, names: list[NodeName]) -> AsyncGenerator[Progress, None]:
        """Wait until those that are up have a new one. Raises: Unavailable."""
        until = asyncio.get_running_loop().time() + RENEW_WAIT_S
        changed = self._commits.life.mirror.subscribe()
        told: list[NodeName] = []
        while missing := _missing(await self._commits.snapshot(), names):
            for name in missing:
                if name not in told:
                    told.append(name)
                    yield Progress(text=f"the certificate of {name} is being renewed")
            if asyncio.get_running_loop().time() > until:
                raise Unavailable(
                    f"{', '.join(missing)} did not renew within {RENEW_WAIT_S:.0f} s",
                    hint="look at the log of holdfastd there; the wish stands, it goes on trying",
                )
            await wait_change(changed)


def statuses(snapshot: Snapshot) -> list[CertificateStatus]:
    """Return what is known of each node's certificate."""
    found = []
    for name in sorted(snapshot.nodes):
        record = snapshot.certificates.get(name)
        newest = record.value.issued[-1] if record is not None and record.value.issued else None
        found.append(
            CertificateStatus(
                node=name,
                serial=newest.serial if newest is not None else "",
                until_ms=newest.until_ms if newest is not None else None,
                is_awaited=record is not None and record.value.replace != "",
            )
        )
    return found


def _mark(snapshot: Snapshot, node: NodeName) -> tuple[Txn, bool]:
    """Ask a node for a new certificate; whether there is one to replace."""
    before = snapshot.certificates.get(node)
    if before is None or not before.value.issued:
        return Txn(), False
    after = replace(before.value, replace=before.value.issued[-1].serial)
    key = certificates_key(node)
    return Txn(compares=(ModRevision(key, equals=before.revision),), then=(Put(key, encode(after)),)), True


def _missing(snapshot: Snapshot, names: list[NodeName]) -> list[NodeName]:
    return [
        name
        for name in names
        if name in snapshot.sessions and (record := snapshot.certificates.get(name)) and record.value.replace
    ]
