"""A node's certificate: renewed when due, recorded as it is, granted to who cannot sign, whatever is cut off between.

Every way through is also taken with a kill before or after each write to the database: the next keeper finds its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import get_ident

import pytest
from cryptography.x509 import load_der_x509_crl
from tests.unit.decide.made_up import cluster, incarnation, known, node_spec, put, session, up
from tests.unit.node.dying import Killed, Killer
from tests.unit.node.small_database import SmallDatabase
from tests.unit.node.test_maintenance_requests import desk
from tests.unit.node.virtual_time import virtual

from holdfast.decide.certificates import with_issued
from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.certificates import create_authority, create_request, sign_request
from holdfast.membership.identity import NodeIdentity
from holdfast.membership.revocation import issued, sign_revocations, to_der
from holdfast.model.certificates import IssuedCertificate, NodeCertificates, Revocations, RevokedCertificate
from holdfast.model.errors import Unavailable
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.node.certificate_conditions import expiring
from holdfast.node.certificate_requests import CertificateRequests
from holdfast.node.certificates import HEARD_MS, CertificateKeeper
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result
from holdfast.node.mirror import Mirror
from holdfast.store.memory import MemoryStore
from holdfast.store.port import Delete, Txn
from holdfast.store.records import REVOCATIONS, certificates_key, node_key

A, W = NodeName("a"), NodeName("w")
DAY_MS = 86_400_000
START = datetime(2030, 1, 1, tzinfo=UTC)
ID = "6d5c9d3e-2f2e-4d5b-9a55-0c9f4a6d1f11"


class Calendar:
    """Clocks that a test moves."""

    def __init__(self) -> None:
        self.days = 0
        self.up_ms = 0

    def wall_ms(self) -> int:
        return int((START + timedelta(days=self.days)).timestamp() * 1000)

    def monotonic_ms(self) -> int:
        return self.up_ms


WRITERS: list[int] = []
"""The threads in which `Watched` wrote."""


class Watched(CertificateFiles):
    """Files that note in which thread they are written."""

    def write_revocations(self, list_pem: bytes) -> bool:
        WRITERS.append(get_ident())
        return CertificateFiles.write_revocations(self, list_pem)

    def renew_node(self, *, node: NodeName, addresses: Iterable[str], now: datetime, is_due: bool = False) -> bool:
        WRITERS.append(get_ident())
        return CertificateFiles.renew_node(self, node=node, addresses=addresses, now=now, is_due=is_due)


class Place:
    """The host a, which can sign, and the witness w, which cannot."""

    def __init__(self, folder: Path) -> None:
        self.database, self.clock = SmallDatabase(), Calendar()
        self.authority = create_authority(cluster_name="test", now=START)
        self.files = {name: self._files(folder / name, name) for name in (A, W)}
        self.files[A].write_authority(self.authority)
        self.database.node(node_spec("a"))
        self.database.node(node_spec("w", is_witness=True))
        self.database.elect(self.database.up(session("a")), incarnation("a"))
        self.database.up(session("w"))
        self.shown: list[IssuedCertificate] = []
        self.shut_out: list[str] = []
        self.copied: list[IssuedCertificate] = []
        self.fails = 0
        """So many calls of `show` or `copy` go wrong, in turn."""
        self.killer: Killer | None = None

    def _files(self, folder: Path, name: NodeName) -> CertificateFiles:
        folder.mkdir()
        files, request = CertificateFiles(folder), create_request(name)
        own = node_spec(name).addresses.values()
        pem = sign_request(self.authority, request.request_pem, node=name, addresses=own, now=START)
        files.write_node(key_pem=request.key_pem, certificate_pem=pem, authority_pem=self.authority.certificate_pem)
        return files

    def keeper(self, name: NodeName, mirror: Mirror | None = None) -> CertificateKeeper:
        """A keeper that was just started."""

        async def shut_out(peers: tuple[str, ...]) -> None:
            self.shut_out += peers

        store = MemoryStore(self.database.database)
        return CertificateKeeper(
            identity=NodeIdentity(
                cluster_id=ClusterId(ID),
                cluster_name="test",
                node=name,
                node_id=ID,
                addresses=dict(node_spec(name).addresses),
                is_voter=True,
            ),
            files=self.files[name],
            store=store if self.killer is None else self.killer.around(store),
            mirror=mirror or Mirror(),
            clock=self.clock,
            show=lambda: self._shown(name),
            cut=shut_out,
            copy=self._copied,
        )

    def _shown(self, name: NodeName) -> None:
        if self.fails == 2:
            self._fail()
        self.shown.append(self.in_use(name))

    async def _copied(self) -> None:
        if self.fails == 1:
            self._fail()
        self.copied.append(self.shown[-1])

    def _fail(self) -> None:
        self.fails -= 1
        raise OSError("no such luck")

    async def round(self, name: NodeName) -> None:
        """One round of a keeper that was just started."""
        await self.keeper(name).round(self.database.snapshot())

    async def settle(self) -> None:
        """Rounds of both until all is done."""
        for _ in range(4):
            await self.round(A)
            await self.round(W)

    def in_use(self, name: NodeName) -> IssuedCertificate:
        """What the file says."""
        return issued(self.files[name].read_node(), "file")

    def record(self, name: NodeName) -> NodeCertificates:
        """What the database says."""
        return self.database.snapshot().certificates[name].value

    def want(self, name: NodeName) -> IssuedCertificate:
        """Mark the present one for replacement."""
        before = self.record(name)
        self.database.put(certificates_key(name), replace(before, replace=before.issued[-1].serial))
        return before.issued[-1]


async def test_what_is_in_use_is_recorded_and_stays_while_it_is_good(tmp_path: Path) -> None:
    place = Place(tmp_path)
    before = place.in_use(A), place.in_use(W)
    place.clock.days = 244
    await place.settle()
    assert (place.in_use(A), place.in_use(W)) == before
    assert [place.record(name).issued for name in (A, W)] == [(before[0],), (before[1],)]
    assert place.record(W).request_pem
    assert not place.record(A).request_pem
    assert set(place.shown) == set(before), "those that are in use, at every start"


async def test_both_renew_by_themselves_120_days_before_the_end_and_keep_their_keys(tmp_path: Path) -> None:
    place = Place(tmp_path)
    keys = [place.files[name].key.read_bytes() for name in (A, W)]
    place.clock.days = 246
    await place.settle()
    for name in (A, W):
        assert place.in_use(name).until_ms == place.clock.wall_ms() + 365 * DAY_MS
        assert place.record(name).issued[-1] == place.in_use(name)
        assert len(place.record(name).issued) == 2
        place.files[name].check_node(START + timedelta(days=246))
    assert [place.files[name].key.read_bytes() for name in (A, W)] == keys
    assert place.shown[-2:] == [place.in_use(A), place.in_use(W)]


@pytest.mark.parametrize("at", range(16))
async def test_a_kill_between_any_two_steps_costs_nothing(tmp_path: Path, at: int) -> None:
    place = Place(tmp_path)
    await place.settle()
    before = {name: place.want(name) for name in (A, W)}
    place.killer = Killer(at)
    for _ in range(2):
        with suppress(Killed):
            await place.settle()
    for name in (A, W):
        record = place.record(name)
        assert place.in_use(name) != before[name]
        assert record.issued == (before[name], place.in_use(name))
        assert record.replace == ""
        place.files[name].check_node(START)


async def test_of_a_node_that_was_taken_out_no_record_comes_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    before = place.database.snapshot()
    place.database.database.txn(Txn(then=(Delete(node_key(A)),)))
    await place.keeper(A).round(before)
    assert A not in place.database.snapshot().certificates


async def test_the_list_of_the_cluster_reaches_the_members_and_ends_what_is_open(tmp_path: Path) -> None:
    place = Place(tmp_path)
    gone = "203.0.113.9"
    entry = RevokedCertificate(node=NodeName("x"), serial="ab", until_ms=0, at_ms=0, addresses=(gone, "192.0.2.1"))
    listed = sign_revocations(place.authority, (entry,), START)
    place.database.put(REVOCATIONS, Revocations(revoked=(entry,), list_pem=listed.decode()))
    await place.settle()
    for name in (A, W):
        listed_here = load_der_x509_crl(place.files[name].revocations.read_bytes())
        assert [one.serial_number for one in listed_here] == [0xAB]
    assert place.shut_out == [gone] * 8, "at every start on each machine, and no address that a node has"


def listing(place: Place, *addresses: str) -> bytes:
    """Have the database list a machine as revoked; returns the list as the members read it."""
    entry = RevokedCertificate(node=NodeName("x"), serial="ab", until_ms=0, at_ms=0, addresses=addresses)
    listed = sign_revocations(place.authority, (entry,), START)
    place.database.put(REVOCATIONS, Revocations(revoked=(entry,), list_pem=listed.decode()))
    return to_der(listed)


async def test_a_keeper_that_goes_on_cuts_once_and_one_that_was_killed_before_it_cuts_at_its_start(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    listed = listing(place, "203.0.113.9")
    place.files[A].revocations.write_bytes(listed)  # as a daemon leaves it that is killed before it cuts
    keeper = place.keeper(A)
    for _ in range(3):
        await keeper.round(place.database.snapshot())
    assert place.shut_out == ["203.0.113.9"]


async def test_whoever_was_just_taken_out_has_time_to_learn_of_it_from_the_database(tmp_path: Path) -> None:
    place = Place(tmp_path)
    keeper, file = place.keeper(A), place.files[A].revocations
    await keeper.round(place.database.snapshot())
    before = listed = file.read_bytes()
    for gone in ("203.0.113.9", "203.0.113.10"):
        listed = listing(place, gone)
        await keeper.round(place.database.snapshot())
        place.clock.up_ms += HEARD_MS - 1
        await keeper.round(place.database.snapshot())
        assert (file.read_bytes(), place.shut_out) == (before, [])
    place.clock.up_ms += 1
    await keeper.round(place.database.snapshot())
    assert (file.read_bytes(), place.shut_out) == (listed, ["203.0.113.10"])


async def test_a_list_that_was_deleted_comes_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    keeper, file = place.keeper(A), place.files[A].revocations
    for _ in range(2):
        await keeper.round(place.database.snapshot())
        assert file.exists(), "one that revokes nothing"
        file.unlink()
    listed = listing(place, "203.0.113.9")
    for _ in range(2):
        await keeper.round(place.database.snapshot())
        assert file.read_bytes() == listed, "at once: without one nobody gets to the database here"
        file.unlink()


async def test_a_file_that_cannot_be_read_ends_nothing_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path)
    listed, file = listing(place), place.files[A].revocations
    file.mkdir()
    mirror = Mirror()
    keeper = place.keeper(A, mirror=mirror)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(mirror.run(MemoryStore(place.database.database)))
        working = tasks.create_task(keeper.run())
        await until(lambda: "certificate of a" in caplog.text)
        assert str(file) in caplog.text
        file.rmdir()
        place.database.node(node_spec("c"))
        await until(file.exists)
        following.cancel()
        working.cancel()
    assert file.read_bytes() == listed


async def test_what_could_not_be_shown_or_copied_is_shown_and_copied_later(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.round(A)
    place.want(A)
    keeper = place.keeper(A)
    place.fails = 2
    for _ in range(2):
        with pytest.raises(OSError, match="no such luck"):
            await keeper.round(place.database.snapshot())
    for _ in range(3):
        await keeper.round(place.database.snapshot())
    assert place.shown == [place.in_use(A)]
    assert place.copied == [place.in_use(A)] * 3
    assert place.record(A).replace == ""


async def test_files_are_written_outside_of_the_loop(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.round(A)
    place.want(A)
    listing(place)
    place.files[A] = watched = Watched(place.files[A].folder)
    await place.round(A)
    assert len(WRITERS) == 2
    assert get_ident() not in WRITERS
    assert watched.read_node()


@pytest.mark.parametrize(
    ("days", "is_up", "expected"),
    [
        (334, True, []),
        (335, True, ["certificate of a expires on 2031-01-01", "holdfast certificate renew a"]),
        (335, False, ["start it"]),
        (366, True, ["certificate of a expired on 2031-01-01"]),
    ],
)
def test_a_certificate_that_ends_within_30_days_is_a_condition(days: int, is_up: bool, expected: list[str]) -> None:
    until_ms = int((START + timedelta(days=365)).timestamp() * 1000)
    record = NodeCertificates(node=A, issued=(IssuedCertificate(serial="1", until_ms=until_ms),))
    snapshot = cluster(up("a") if is_up else known("a"), put("certificates", "a", record))
    found = expiring(snapshot, until_ms - (365 - days) * DAY_MS)
    assert [condition.code for condition in found] == ["certificate-expires"] * bool(expected)
    assert all(words in found[0].text for words in expected)


@virtual
async def test_a_wish_for_new_certificates_waits_for_those_that_are_up() -> None:
    async with desk(a=8, b=8) as here:
        old, new = IssuedCertificate(serial="1", until_ms=2), IssuedCertificate(serial="2", until_ms=3)
        here.database.node(node_spec("c"))
        for name in ("a", "b", "c"):
            here.database.put(certificates_key(NodeName(name)), NodeCertificates(node=NodeName(name), issued=(old,)))
        await asyncio.sleep(1)
        requests = CertificateRequests(Commits(here.life, here.store))
        asking = asyncio.create_task(_all(requests.handle("certificate.renew", {})))
        await asyncio.sleep(2)
        for name in (A, NodeName("b")):
            record = here.database.snapshot().certificates[name].value
            assert record.replace == "1"
            here.database.put(certificates_key(name), with_issued(record, new, 0))
        *steps, result = await asyncio.wait_for(asking, 5)
        assert len(steps) == 2
        assert isinstance(result, Result)
        assert [(one.node, one.serial, one.is_awaited) for one in result.value] == [  # type: ignore[attr-defined]
            ("a", "2", False),
            ("b", "2", False),
            ("c", "1", True),
        ]


@virtual
async def test_a_node_that_does_not_renew_is_named_and_the_wish_stands() -> None:
    async with desk(a=8) as here:
        record = NodeCertificates(node=A, issued=(IssuedCertificate(serial="1", until_ms=2),))
        here.database.put(certificates_key(A), record)
        await asyncio.sleep(1)
        with pytest.raises(Unavailable, match="a did not renew within 60 s"):
            await _all(CertificateRequests(Commits(here.life, here.store)).handle("certificate.renew", {"node": "a"}))
        assert here.database.snapshot().certificates[A].value.replace == "1"


async def _all(items: AsyncGenerator[object, None]) -> list[object]:
    return [item async for item in items]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at most."""
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def test_a_certificate_follows_a_new_address_of_its_node_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.settle()
    before, own = place.in_use(A), node_spec("a").addresses
    place.database.node(node_spec("a", addresses={**own, NetworkName("storage"): "10.0.2.1"}))
    await place.settle()
    after = place.in_use(A)
    assert after != before
    assert place.files[A].covers((*own.values(), "10.0.2.1"))
    assert place.record(A).issued[-1] == after
    await place.settle()
    assert place.in_use(A) == after
    place.database.node(node_spec("a"))
    await place.settle()
    assert place.in_use(A) == after, "an address that is gone is left out at the next renewal"
