"""This node's certificate: renewed in good time or when asked, told to the database, and the list of what is revoked.

Rule of the file: every round begins with what the files and the database say, so that a round that is cut off anywhere
is made good by the next; the certificate on disk is replaced at once, with the same key, then shown, and only then
recorded. Files are written in a thread: heartbeats and entitlement wait for no disk. Source: docs/security.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from holdfast.decide.certificates import is_due, with_issued
from holdfast.membership.atomic_file import write_durably
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import sign_request
from holdfast.membership.identity import NodeIdentity
from holdfast.membership.revocation import issued, sign_revocations
from holdfast.model.certificates import IssuedCertificate, NodeCertificates
from holdfast.model.errors import HoldfastError
from holdfast.model.nodes import NodeSpec
from holdfast.model.snapshot import Snapshot, Versioned
from holdfast.node.clock import Clock
from holdfast.node.mirror import Mirror
from holdfast.node.transactions import revision_of
from holdfast.store.port import CreateRevision, ModRevision, Put, Store, Txn
from holdfast.store.records import certificates_key, encode, node_key

log = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""How long a lost list stays lost when the cluster is quiet: without it no peer gets to the database here."""
RETRY_S: Final = 5.0
TOGETHER_S: Final = 1.0
"""News that come so close together are looked at once."""
HEARD_MS: Final = 10_000
"""A new list is not followed for so long: from the database the machines that it shuts out learn that they are."""


class CertificateKeeper:
    """Keeps one node's certificate good.

    show   has the certificate on disk used from the next handshake on; called at the start and after each renewal.
    copy   lets the copies of it, and of the list, follow, after `show`; called in each round.
    cut    ends the connections that these addresses have open to the database here.
    """

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        files: CertificateFiles,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        show: Callable[[], None],
        cut: Callable[[tuple[str, ...]], Awaitable[object]],
        copy: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._me = identity.node
        self._files = files
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._show = show
        self._copy = copy
        self._cut = cut
        self._shown: bytes | None = None
        """The certificate that is shown; None until this daemon has looked."""
        self._cut_for: str | None = None
        """The list whose machines have nothing open here any more; None until this daemon has looked."""
        self._seen: tuple[str | None, int] | None = None
        """The latest list, and since when; None until this daemon has looked."""

    async def run(self) -> None:
        """Work until cancelled."""
        changed = self._mirror.subscribe()
        while True:
            pause_s = LOOK_S
            snapshot = self._mirror.snapshot
            try:
                if snapshot is not None and self._me in snapshot.nodes:
                    await self.round(snapshot)
                    pause_s = LOOK_S if self._follows_list() else RETRY_S
            except (HoldfastError, OSError) as error:
                log.warning("certificate of %s: %s", self._me, error)
                pause_s = RETRY_S
            try:
                async with asyncio.timeout(pause_s):
                    await changed.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(TOGETHER_S)
            changed.clear()

    async def round(self, snapshot: Snapshot) -> None:
        """Do what is to be done now. Raises: HoldfastError, OSError (a file that cannot be read or used)."""
        await self._follow_list(snapshot)
        record = snapshot.certificates.get(self._me)
        if record is None or not record.value.issued:
            await self._tell(snapshot, record)  # before it is replaced: it could be used until its end
            return
        addresses = tuple(snapshot.nodes[self._me].value.addresses.values())
        if is_due(record.value, self._own(), self._clock.wall_ms()) or not self._covers(addresses):
            await asyncio.to_thread(self._renew, record.value, addresses)
        own = self._files.read_node()
        if own != self._shown:
            self._show()
            self._shown = own
        await self._tell(snapshot, record)
        if snapshot.coordinator is not None and snapshot.coordinator.value.node == self._me:
            await self._grant(snapshot)
        if self._copy is not None:
            await self._copy()

    def _own(self) -> IssuedCertificate:
        return issued(self._files.read_node(), str(self._files.certificate))

    async def _follow_list(self, snapshot: Snapshot) -> None:
        """Have the members here refuse what the cluster has revoked, and end what that has open."""
        is_news = self._is_news(snapshot)
        if snapshot.revocations is None:
            await asyncio.to_thread(ensure_list, self._files, self._now())
            return
        found = snapshot.revocations.value
        if is_news and self._files.revocations.exists():
            return
        await asyncio.to_thread(self._files.write_revocations, found.list_pem.encode())
        if found.list_pem == self._cut_for:
            return
        present = {ip for node in snapshot.nodes.values() for ip in node.value.addresses.values()}
        gone = dict.fromkeys(ip for one in found.revoked for ip in one.addresses if ip not in present)
        await self._cut(tuple(gone))
        self._cut_for = found.list_pem

    def _is_news(self, snapshot: Snapshot) -> bool:
        """Whether the list is younger than `HEARD_MS`. What a daemon finds when it starts is not."""
        list_pem = None if snapshot.revocations is None else snapshot.revocations.value.list_pem
        now_ms = self._clock.monotonic_ms()
        if self._seen is None:
            self._seen = list_pem, now_ms - HEARD_MS
        elif list_pem != self._seen[0]:
            self._seen = list_pem, now_ms
        return now_ms - self._seen[1] < HEARD_MS

    def _follows_list(self) -> bool:
        return self._seen is None or self._seen[0] == self._cut_for

    def _covers(self, addresses: tuple[str, ...]) -> bool:
        """Whether the certificate is for this node's addresses, as far as that can be mended here."""
        return not self._files.authority_key.exists() or self._files.covers(addresses)

    def _renew(self, record: NodeCertificates, addresses: tuple[str, ...]) -> None:
        """Have a new certificate for the same key: signed here, or what was granted to a witness."""
        if self._files.authority_key.exists():
            self._files.renew_node(node=self._me, addresses=addresses, now=self._now(), is_due=True)
        elif record.granted_pem and record.granted_pem.encode() != self._files.read_node():
            write_durably(self._files.certificate, record.granted_pem.encode())
        else:
            return
        log.info("the certificate of %s was renewed", self._me)

    async def _tell(self, snapshot: Snapshot, before: Versioned[NodeCertificates] | None) -> None:
        """Keep the record of this node's certificates right."""
        record = before.value if before is not None else NodeCertificates(node=self._me)
        after = with_issued(record, self._own(), self._clock.wall_ms())
        if not self._files.authority_key.exists() and not after.request_pem:
            after = replace(after, request_pem=self._files.request_again(self._me).decode())
        if after != record:
            await self._write(snapshot, after, before)

    async def _grant(self, snapshot: Snapshot) -> None:
        """Sign for the witnesses whose certificates are due. Only the coordinator does."""
        for name, before in sorted(snapshot.certificates.items()):
            record, node = before.value, snapshot.nodes.get(name)
            if node is None or not record.request_pem or not record.issued:
                continue
            in_use = record.issued[-1]
            granted = issued(record.granted_pem.encode(), "what was granted") if record.granted_pem else None
            if not is_due(record, in_use, self._clock.wall_ms()) or (granted is not None and granted != in_use):
                continue
            pem = self._sign(record.request_pem, node.value)
            both = (issued(pem, "what was signed"), in_use)
            kept = tuple(one for one in record.issued if one != in_use)
            await self._write(snapshot, replace(record, issued=(*kept, *both), granted_pem=pem.decode()), before)

    def _sign(self, request_pem: str, node: NodeSpec) -> bytes:
        authority = self._files.read_authority(self._now())
        addresses = node.addresses.values()
        return sign_request(authority, request_pem.encode(), node=node.name, addresses=addresses, now=self._now())

    async def _write(
        self, snapshot: Snapshot, after: NodeCertificates, before: Versioned[NodeCertificates] | None
    ) -> None:
        """Write a record of a node that is one: of one that was taken out nothing comes back."""
        key = certificates_key(after.node)
        is_node = CreateRevision(node_key(after.node), equals=snapshot.nodes[after.node].created)
        compares = (ModRevision(key, equals=revision_of(before)), is_node)
        await self._store.txn(Txn(compares=compares, then=(Put(key, encode(after)),)))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC)


def ensure_list(files: CertificateFiles, now: datetime) -> None:
    """Have a list that revokes nothing where there is none yet: the member needs one. Raises: HoldfastError."""
    if not files.revocations.exists() and files.authority_key.exists():
        files.write_revocations(sign_revocations(files.read_authority(now), (), now))
