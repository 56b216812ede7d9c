"""The cluster database as etcd keeps it. Source: the promises of ``port.Store``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from holdfast.store import port
from holdfast.store.errors import LeaseNotFound
from holdfast.store.etcd import calls, translate
from holdfast.store.etcd.caller import Caller
from holdfast.store.etcd.endpoints import Endpoints
from holdfast.store.etcd.timing import Timing
from holdfast.store.etcd.tls import TlsFiles
from holdfast.store.etcd.watch import watch
from holdfast.store.proto import etcd_pb2 as pb


class EtcdConnections:
    """The members of the database and the connections to them, shared by the store and its administration."""

    def __init__(self, addresses: tuple[str, ...], tls: TlsFiles, timing: Timing | None = None) -> None:
        """Take ``host:port`` of each member, the own node's first. Connects when first needed."""
        self.timing = timing or Timing()
        self._tls = tls
        self._context = tls.client_context()
        self.endpoints = Endpoints(addresses, self._context, self.timing)
        self.caller = Caller(self.endpoints, self.timing)

    def use_members(self, addresses: tuple[str, ...]) -> None:
        """Talk to these members from now on (``host:port``, the own node's first); watches move over by themselves."""
        self.endpoints.replace(addresses)

    def use_new_certificate(self) -> None:
        """Show the certificate that the file has now from the next handshake on; what is connected stays so."""
        self._tls.load_into(self._context)

    def silent(self, hosts: Collection[str]) -> None:
        """Wait no longer for the members on these addresses: what hangs on them moves to others at once."""
        self.endpoints.silent(hosts)

    async def close(self) -> None:
        """Break all connections."""
        await self.endpoints.close()


class EtcdStore:
    """``port.Store`` on etcd. Must be made while the event loop runs."""

    def __init__(self, connections: EtcdConnections) -> None:
        self._endpoints = connections.endpoints
        self._timing = connections.timing
        self._call = connections.caller.call

    async def get(self, key: str, *, timeout_s: float | None = None) -> port.KeyValue | None:
        """Return the key, or None when it does not exist."""
        request = pb.RangeRequest(key=key.encode())
        response = await self._call(calls.RANGE, request, is_repeatable=True, timeout_s=timeout_s)
        return translate.key_value(response.kvs[0]) if response.kvs else None

    async def list(self, prefix: str, *, timeout_s: float | None = None) -> port.Listing:
        """Return every key that starts with ``prefix``."""
        key, range_end = translate.prefix_range(prefix)
        request = pb.RangeRequest(key=key, range_end=range_end)
        response = await self._call(calls.RANGE, request, is_repeatable=True, timeout_s=timeout_s)
        return port.Listing(
            revision=response.header.revision, items=tuple(translate.key_value(kv) for kv in response.kvs)
        )

    async def txn(self, txn: port.Txn, *, timeout_s: float | None = None) -> port.TxnResult:
        """Decide and write at one revision."""
        request = translate.txn_request(txn)
        response = await self._call(calls.TXN, request, is_repeatable=not txn.then, timeout_s=timeout_s)
        return translate.txn_result(response)

    def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[port.WatchBatch, None]:
        """Yield the changes of ``from_revision`` and later, in order."""
        return watch(self._endpoints, self._timing, prefix, from_revision)

    async def grant(self, ttl_s: int, *, timeout_s: float | None = None) -> port.LeaseId:
        """Create a lease."""
        request = pb.LeaseGrantRequest(TTL=ttl_s)
        response = await self._call(calls.LEASE_GRANT, request, is_repeatable=True, timeout_s=timeout_s)
        return port.LeaseId(response.ID)

    async def keep_alive(self, lease: port.LeaseId, *, timeout_s: float | None = None) -> float:
        """Start the lease's time again and return it in seconds."""
        request = pb.LeaseKeepAliveRequest(ID=lease)
        response = await self._call(calls.LEASE_KEEP_ALIVE, request, is_repeatable=True, timeout_s=timeout_s)
        if response.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has ended", hint="grant a new lease")
        return float(response.TTL)

    async def revoke(self, lease: port.LeaseId, *, timeout_s: float | None = None) -> None:
        """End the lease and remove its keys."""
        request = pb.LeaseRevokeRequest(ID=lease)
        try:
            await self._call(calls.LEASE_REVOKE, request, is_repeatable=True, timeout_s=timeout_s)
        except LeaseNotFound:
            return

    async def close(self) -> None:
        """Give up all connections, also those of an administration that shares them."""
        await self._endpoints.close()
