"""Which member to talk to: the first in the list that is not suspect.

A member that did not answer in time becomes suspect and the others are asked first, so its silence costs one time-out,
not one per call. A short status call then tells "slow" from "gone": an answer clears it, silence breaks the connection,
which ends every call and watch that still hangs on it. Members that watches depend on are probed too, since nothing
else would notice their silence. Without suspects and watches nothing runs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from holdfast.store.etcd.calls import STATUS
from holdfast.store.etcd.connection import CallFailed, Connection, Rejected
from holdfast.store.etcd.timing import Timing
from holdfast.store.proto import etcd_pb2 as pb


class Endpoint(Connection):
    """One member, with what is known of its health."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        super().__init__(address, context)
        self.host = address.rpartition(":")[0].strip("[]")
        self.is_suspect = False
        self.watches = 0


class Endpoints:
    """The members in order of preference: the own node's first."""

    def __init__(self, addresses: tuple[str, ...], context: ssl.SSLContext, timing: Timing) -> None:
        self._context = context
        self._timing = timing
        self._endpoints = tuple(Endpoint(address, context) for address in addresses)
        self._work = asyncio.Event()
        self._prober: asyncio.Task[None] | None = None

    def preferred(self) -> tuple[Endpoint, ...]:
        """Return those worth asking, best first; all of them when all are suspect."""
        return tuple(e for e in self._endpoints if not e.is_suspect) or self._endpoints

    def every(self) -> tuple[Endpoint, ...]:
        """Return all of them."""
        return self._endpoints

    def named(self, address: str) -> Endpoint | None:
        """Return the endpoint with this address, if it is one of ours."""
        return next((e for e in self._endpoints if e.address == address), None)

    def replace(self, addresses: tuple[str, ...]) -> None:
        """Use these members from now on; connections to those that stay are kept, the others are broken."""
        kept = {e.address: e for e in self._endpoints if e.address in addresses}
        for endpoint in self._endpoints:
            if endpoint.address not in kept:
                endpoint.drop()
        self._endpoints = tuple(kept.get(a) or Endpoint(a, self._context) for a in addresses)

    def suspect(self, endpoint: Endpoint) -> None:
        """Ask others first, until a probe clears this one."""
        endpoint.is_suspect = True
        self._wake()

    def silent(self, hosts: Collection[str]) -> None:
        """Break the connections to members on these hosts and ask others first: somebody noticed their silence."""
        for endpoint in self._endpoints:
            if endpoint.host in hosts:
                endpoint.drop()
                self.suspect(endpoint)

    @contextmanager
    def watched(self, endpoint: Endpoint) -> Iterator[None]:
        """Probe this member as long as the block runs, because a watch depends on it."""
        endpoint.watches += 1
        self._wake()
        try:
            yield
        finally:
            endpoint.watches -= 1

    async def close(self) -> None:
        """Stop probing and break all connections."""
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait((self._prober,))
        for endpoint in self._endpoints:
            endpoint.drop()

    def _wake(self) -> None:
        self._work.set()
        if self._prober is None:
            self._prober = asyncio.create_task(self._probe_while_needed(), name="etcd-prober")

    async def _probe_while_needed(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            needy = [e for e in self._endpoints if e.is_suspect or e.watches]
            async with asyncio.TaskGroup() as probes:
                for endpoint in needy:
                    probes.create_task(self._probe(endpoint))
            if any(e.is_suspect or e.watches for e in self._endpoints):
                await self._pause()
                self._work.set()

    async def _pause(self) -> None:
        """Wait for the next round, shorter when a member becomes suspect meanwhile."""
        suspects = any(e.is_suspect for e in self._endpoints)
        try:
            async with asyncio.timeout(self._timing.suspect_probe_s if suspects else self._timing.watch_probe_s):
                await self._work.wait()
        except TimeoutError:
            pass

    async def _probe(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.call(STATUS, pb.StatusRequest(), timeout_s=self._timing.probe_timeout_s)
        except Rejected:
            endpoint.is_suspect = False  # any answer shows that it lives
        except CallFailed:
            endpoint.is_suspect = True
            endpoint.drop()
        else:
            endpoint.is_suspect = False
