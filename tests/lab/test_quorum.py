"""Votes under fire: voters that fail one after another, lose their disks, freeze, and lose power in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, pairwise

import pytest
from tests.lab.cluster_under_test import ClusterUnderTest, eventually, hold, node_in

from holdfast.client import requests
from holdfast.lab.database import Change, LabDatabase
from holdfast.lab.layout import WITNESS
from holdfast.lab.provision import join_witness
from holdfast.model.errors import HoldfastError
from holdfast.model.events import Event
from holdfast.model.roles import Ownership
from holdfast.model.snapshot import Coordinator
from holdfast.model.status import ClusterStatus, NodeState, RoleState
from holdfast.store.records import COORDINATOR, EVENTS, OWNERSHIPS, decode

pytestmark = pytest.mark.timeout(600)

SETTING, VALUES = "moves_at_once", (3, 4)
"""What is decided, again and again."""
NEXT_AFTER_S = 0.1
UNDECIDED_S = 5.0
"""What elections take on two busy cores; a lost quorum lasts until it is back."""
REPLACE_S = 20
"""The least that may be set."""
FROZEN_S = 60.0
"""Longer than patience, than a session lives, and than any call is waited for."""
AFTER_THAW_S = 5.0
DATA = "/var/lib/holdfast/etcd"
ASIDE = "/var/lib/holdfast/etcd.aside"
FILLER = f"{DATA}/filler"
LEFT_BYTES = 100 << 20
"""Enough to go on with, and not to start with."""
NOTED_S = 8.0
"""How far a member has stored is noted every five seconds."""
ROOM_MIB = 400
"""Two pieces of 64 MB of etcd's log, its database, and the 192 MiB without which it does not start."""


@dataclass(slots=True)
class Deciding:
    """Decisions that are asked for all the time, of a node that is up. `asked`: which, now."""

    cluster: ClusterUnderTest
    asked: str
    decided_at: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def going_on(self) -> AsyncGenerator[Deciding, None]:
        """Decide until the block ends."""
        task = asyncio.create_task(self._decide())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def assert_never_frozen(self) -> None:
        """Fail if nothing could be decided for longer than elections take."""
        longest_s = max(after - before for before, after in pairwise(self.decided_at))
        print(f"{len(self.decided_at)} decisions, {longest_s:.1f} s between two of them at most")
        assert longest_s <= UNDECIDED_S

    async def _decide(self) -> None:
        time = asyncio.get_running_loop().time
        self.decided_at.append(time())
        for value in cycle(VALUES):
            with suppress(HoldfastError, OSError):
                await self.cluster.ask(self.asked, requests.set_cluster(SETTING, value))
                self.decided_at.append(time())
            await asyncio.sleep(NEXT_AFTER_S)


async def end_member(cluster: ClusterUnderTest, node: str) -> None:
    """Stop a node's holdfastd, and kill its member of the database: it is gone when this returns."""
    await cluster.lab.service_stop(node, "holdfastd")
    await cluster.lab.execute(
        node,
        "sh",
        "-c",
        "pid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/' /run/holdfast/etcd.process) && kill -9 $pid && "
        "while kill -0 $pid; do sleep 0.05; done",
    )


async def test_a_voter_is_replaced_while_another_one_fails(five: ClusterUnderTest) -> None:
    """Five of six vote. One fails; while its vote goes to the sixth, another one fails."""
    await five.wait_votes(5)
    await join_witness(five.lab, asked="node1")
    await five.wait(
        "the witness votes", lambda seen: seen.voters_up == 5 and node_in(seen, WITNESS).is_voter, asked="node1"
    )
    await five.wait_votes(5)
    status = await five.status("node1")
    [spare] = [node.name for node in status.nodes if not node.is_voter]
    coordinator = await five.coordinator()
    asked = five.nodes[0]
    first = next(name for name in five.nodes if name not in (spare, coordinator, asked))
    async with five.setting("voter_replace_after_s", REPLACE_S), Deciding(five, asked).going_on() as deciding:
        await five.lab.power_off(first)
        await five.wait("its vote is taken", lambda seen: not node_in(seen, first).is_voter, asked=asked)
        await five.lab.power_off(WITNESS)
        await five.wait(
            "the witness missed", lambda seen: not is_up(seen, WITNESS) and seen.database_answers, asked=asked
        )
        await five.lab.power_on(WITNESS)
        status = await five.wait("five voters", lambda seen: (seen.voters, seen.voters_up) == (5, 5), asked=asked)
        assert node_in(status, spare).is_voter
        assert not node_in(status, first).is_voter
    deciding.assert_never_frozen()
    await five.ask(asked, requests.leave_cluster(WITNESS))
    await five.lab.power_on(first)
    await five.wait_votes(5)


def is_up(status: ClusterStatus, node: str) -> bool:
    """Whether a node is heard and has a session."""
    return node_in(status, node).state in {NodeState.UP, NodeState.BADLY_CONNECTED}


async def test_the_disk_of_a_voter_fills_up_and_is_then_lost(three: ClusterUnderTest) -> None:
    """Its member stops and the others decide; with room it goes on; without its data it never votes again."""
    victim, asked = "node2", "node1"
    await three.wait_votes(3)
    database = LabDatabase(lab=three.lab, asked=asked)
    await database.lead(asked)
    guest = await three.start_guest(on=victim, is_booted=False)
    before = three.processes(guest)
    await move_data_to_small_disk(three, victim)
    try:
        async with Deciding(three, asked).going_on() as deciding:
            await fill_disk(three, victim, database)
            await three.lab.execute(victim, "rm", FILLER)
            await three.wait("no warning of it", lambda seen: not has_full_disk(seen), asked=asked)
            await database.lead(victim)
            await database.lead(asked)
            old = (await database.member_ids())[victim]
            await end_member(three, victim)
    finally:
        await three.lab.execute(victim, "umount", DATA)
    async with deciding.going_on():
        await three.lab.service_start(victim, "holdfastd")
        await eventually(f"{victim} gets a new member", lambda: another_votes(three, database, victim, old))
        await three.wait_votes(3)
    deciding.assert_never_frozen()
    assert three.processes(guest) == before, "the guest did not notice"


async def test_a_voter_whose_data_are_restored_from_an_old_copy_does_not_vote_with_them(
    three: ClusterUnderTest,
) -> None:
    victim, asked = "node2", "node1"
    await three.wait_votes(3)
    database = LabDatabase(lab=three.lab, asked=asked)
    await database.lead(asked)
    await end_member(three, victim)
    await three.lab.execute(victim, "cp", "-a", DATA, ASIDE)
    await three.lab.service_start(victim, "holdfastd")
    await three.wait_votes(3)
    async with Deciding(three, asked).going_on() as deciding:
        await asyncio.sleep(NOTED_S)
    old = (await database.member_ids())[victim]
    await end_member(three, victim)
    await three.lab.execute(victim, "sh", "-c", f"rm -r {DATA} && mv {ASIDE} {DATA}")
    async with deciding.going_on():
        await three.lab.service_start(victim, "holdfastd")
        await eventually(f"{victim} gets a new member", lambda: another_votes(three, database, victim, old))
        await three.wait_votes(3)
    deciding.assert_never_frozen()


async def move_data_to_small_disk(cluster: ClusterUnderTest, node: str) -> None:
    """Have a node's member store on a small disk of its own."""
    await end_member(cluster, node)
    script = f"mv {DATA} {ASIDE} && mkdir -m 700 {DATA} && mount -t tmpfs -o size={ROOM_MIB}m,mode=700 tmpfs {DATA}"
    await cluster.lab.execute(node, "sh", "-c", f"{script} && cp -a {ASIDE}/. {DATA}/ && rm -r {ASIDE}")
    await cluster.lab.service_start(node, "holdfastd")

    async def member_runs() -> bool | None:
        return True if (await cluster.lab.execute(node, "pgrep", "-x", "etcd", check=False)).exit_code == 0 else None

    await eventually(f"the member of {node} runs again", member_runs)
    await cluster.wait_votes(3)


async def fill_disk(cluster: ClusterUnderTest, node: str, database: LabDatabase) -> None:
    """Leave no room on a member's disk, and have the database grow until the member ends."""
    room = f"$(($(df --output=avail -B1 {DATA} | tail -1) - {LEFT_BYTES}))"
    await cluster.lab.execute(node, "sh", "-c", f"head -c {room} /dev/zero >{FILLER}")
    status = await cluster.wait("a warning", has_full_disk, asked=database.asked)
    assert "runs and would not start again" in full_disks(status)[0]
    await cluster.lab.execute(node, "sh", "-c", f"cat /dev/zero >>{FILLER}", check=False)
    await database.grow(megabytes=32)

    def has_ended(seen: ClusterStatus) -> bool:
        return any("does not run" in text for text in full_disks(seen))

    status = await cluster.wait("its member ended", has_ended, asked=database.asked)
    assert status.database_answers
    assert node_in(status, node).state is NodeState.UP


def has_full_disk(status: ClusterStatus) -> bool:
    """Whether anything warns of a full disk."""
    return bool(full_disks(status))


def full_disks(status: ClusterStatus) -> list[str]:
    """What warns of a full disk."""
    return [one.text for one in status.conditions if one.code == "database-disk-full"]


async def another_votes(cluster: ClusterUnderTest, database: LabDatabase, node: str, old: int) -> bool | None:
    """Whether a node has another member than it had; until the old one is removed, none may run there."""
    runs = await cluster.lab.execute(node, "pgrep", "-x", "-a", "etcd", check=False)
    known = await database.member_ids()
    hold(
        runs.exit_code != 0 or old not in known.values(),
        f"{node} runs a member that forgot what it acknowledged: {runs.output.strip()}",
    )
    return True if known.get(node, old) != old else None


async def test_safe_4_a_frozen_coordinator_that_leads_the_database_decides_nothing_more(
    disks: ClusterUnderTest,
) -> None:
    """Frozen while it decides; the history of the database tells whose decisions were made from then on."""
    await disks.wait_votes(3)
    frozen = await disks.coordinator()
    await disks.move_database_leader(frozen)
    asked, other = disks.others(frozen)
    database = LabDatabase(lab=disks.lab, asked=asked)
    guest = await disks.start_guest(on=frozen, is_booted=False, lun=disks.lab.luns[0])
    busy = await disks.start_guest(on=other, is_booted=False, lun=disks.lab.luns[1])
    [old] = disks.instances.of(guest.name)
    since = await database.revision()

    keeping_busy = asyncio.create_task(stop_and_start(disks, busy.name, asked))
    await asyncio.sleep(1.0)
    frozen_at = await disks.lab.freeze(frozen)
    await keeping_busy
    await disks.wait_instance(guest, other_than=[old])
    coordinator = (
        await disks.wait("another coordinator", lambda seen: seen.coordinator in (asked, other), asked=asked)
    ).coordinator
    await disks.ask(asked, requests.start_vm(busy.name, wait=False))
    await disks.wait_online(busy, asked=asked)
    await asyncio.sleep(max(0.0, frozen_at + FROZEN_S - asyncio.get_running_loop().time()))
    await disks.lab.thaw(frozen)
    await asyncio.sleep(AFTER_THAW_S)
    await disks.wait("it is back", lambda seen: is_up(seen, frozen), asked=asked)

    assert (await disks.status(asked)).coordinator == coordinator
    assert_decided_by_one(await database.changes(since), frozen=frozen)
    assert len(disks.instances.living(guest.name)) == 1
    disks.assert_ran_once_at_a_time(guest)
    disks.assert_ran_once_at_a_time(busy)


async def stop_and_start(cluster: ClusterUnderTest, role: str, asked: str) -> None:
    """Give the coordinator something to decide for two seconds."""
    until = asyncio.get_running_loop().time() + 2.0
    for order in cycle((requests.stop_vm, requests.start_vm)):
        with suppress(HoldfastError):
            await cluster.ask(asked, order(role, wait=False))
        await asyncio.sleep(NEXT_AFTER_S)
        if asyncio.get_running_loop().time() > until:
            return


def assert_decided_by_one(changes: list[Change], *, frozen: str) -> None:
    """Fail if after the election of another coordinator anything was decided by the one before, or by nobody known."""
    elected = [decode(Coordinator, one.key, one.value) for one in changes if one.key == COORDINATOR and one.value]
    assert elected, "nobody was elected"
    assert {one.node for one in elected} == {elected[0].node} != {frozen}
    since = next(one.revision for one in changes if one.key == COORDINATOR and one.value)
    owners: dict[str, tuple[object, ...]] = {}
    count = 0
    for one in changes:
        if one.key.startswith(OWNERSHIPS) and one.value:
            record = decode(Ownership, one.key, one.value)
            decided = (record.owner, record.epoch)
            if one.revision > since and record.owner is not None and owners.get(one.key) != decided:
                writers = {decode(Event, e.key, e.value).node for e in changes if is_event(e, one.revision) and e.value}
                hold(writers == {elected[0].node}, f"revision {one.revision}: {record} was decided by {writers}")
                count += 1
            owners[one.key] = decided
    assert count >= 1, "nothing was decided meanwhile"


def is_event(change: Change, revision: int) -> bool:
    """Whether a change is the record of an event that was committed with a revision."""
    return change.revision == revision and change.key.startswith(EVENTS)


async def test_the_plug_of_each_node_in_turn(three: ClusterUnderTest) -> None:
    """Every node loses its power and comes back, one after the other, while guests run and decisions are made."""
    await three.wait_votes(3)
    guests = [await three.start_guest(on=node, is_booted=False) for node in three.nodes]
    async with Deciding(three, three.nodes[-1]).going_on() as deciding:
        for node in three.nodes:
            deciding.asked = three.others(node)[0]
            await three.lab.power_off(node)
            await three.wait("all run elsewhere", partial(all_run_without, node), asked=deciding.asked)
            await three.lab.power_on(node)
            await three.wait_votes(3, asked=deciding.asked)
            await LabDatabase(lab=three.lab, asked=deciding.asked).lead(node)
    deciding.assert_never_frozen()
    for guest in guests:
        await three.wait_online(guest, asked=three.nodes[0])
        assert len(three.instances.living(guest.name)) == 1
    await three.boot_ids(guests)
    for guest in guests:
        three.assert_ran_once_at_a_time(guest)


def all_run_without(node: str, status: ClusterStatus) -> bool:
    """Whether every role is online, and none on this node."""
    return all(role.state is RoleState.ONLINE and role.owner != node for role in status.roles)
