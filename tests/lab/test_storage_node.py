"""The storage node and the nodes' adapters: who is fenced cannot write, whatever was under way."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from tests.lab.adapter_client import (
    ABORTED_COMMAND,
    CHECK_CONDITION,
    CLEAR,
    CONFLICT,
    GOOD,
    PREEMPT,
    REGISTER,
    REGISTER_AND_IGNORE,
    RESERVE,
    Adapter,
    do_io,
    io_command,
)
from tests.lab.bare_lab import bare_lab, wait_until

from holdfast.lab.adapter import adapter_service_name
from holdfast.lab.construction import LabOptions
from holdfast.lab.freezer import freezer_root
from holdfast.lab.journal import read_journal
from holdfast.lab.lab import Lab
from holdfast.lab.layout import STORAGE_NODE, Network
from holdfast.lab.luns import CHAP_SECRET, CHAP_USER, Lun, StorageSpec, portal, target_name
from holdfast.lab.machine import Power
from holdfast.lab.namespaces import NETNS_FOLDER
from holdfast.lab.ready import wait_target
from holdfast.lab.target import TARGET_SERVICE

pytestmark = pytest.mark.timeout(600)
KEYS = {"node1": 0xA1, "node2": 0xB2}
OPTIONS = LabOptions(nodes=2, storage=StorageSpec(luns=2, has_chap=True))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with bare_lab("storage", OPTIONS) as lab:
        yield lab
    assert not lab.layout.root.exists()
    for folder in (NETNS_FOLDER, freezer_root()):
        assert not [path for path in folder.iterdir() if lab.layout.owned_namespace.fullmatch(path.name)]


@asynccontextmanager
async def unprotected(lab: Lab, lun: Lun) -> AsyncIterator[tuple[Adapter, Adapter]]:
    """Remove whatever is registered and reserved; gives both nodes' adapters."""
    with await Adapter.of(lab, "node1", lun) as one, await Adapter.of(lab, "node2", lun) as two:
        for adapter in (one, two):
            await wait_until(partial(answers, adapter), timeout_s=60)
        assert one.order(REGISTER_AND_IGNORE, 0, KEYS["node1"]) == GOOD
        assert one.order(CLEAR, KEYS["node1"]) == GOOD
        yield one, two


@asynccontextmanager
async def protected(lab: Lab, lun: Lun) -> AsyncIterator[tuple[Adapter, Adapter]]:
    """Register both nodes, and only them, with a reservation that lets only registered ones write."""
    async with unprotected(lab, lun) as (one, two):
        for adapter, key in zip((one, two), KEYS.values(), strict=True):
            assert adapter.order(REGISTER_AND_IGNORE, 0, key) == GOOD
        assert two.order(RESERVE, KEYS["node2"]) == GOOD
        assert sorted(one.keys() or ()) == sorted(KEYS.values())
        yield one, two


async def answers(adapter: Adapter) -> bool:
    """Whether an adapter has a session."""
    return adapter.keys() is not None


async def wait_write(lab: Lab, node: str, lun: Lun, order: str) -> None:
    """Write until it succeeds: an adapter needs some seconds to log in again."""

    async def has_written() -> bool:
        return (await do_io(lab, node, lun, order)).exit_code == 0

    await wait_until(has_written, timeout_s=60)


async def test_two_nodes_see_the_same_lun_and_its_blocks_lie_on_the_storage_node(lab: Lab) -> None:
    lun = lab.luns[0]
    async with unprotected(lab, lun):
        assert (await do_io(lab, "node1", lun, "write -P 7 0 4k", "flush")).exit_code == 0
        assert (await do_io(lab, "node2", lun, "read -P 7 0 4k")).exit_code == 0
    assert lun.path.read_bytes()[:4097] == b"\7" * 4096 + b"\0"
    assert lab.luns[1].path.read_bytes()[:1] == b"\0"
    assert lun.path.stat().st_blocks * 512 < lun.path.stat().st_size, "LUNs are sparse"


async def test_every_node_knows_a_lun_by_the_designator_that_its_sockets_are_named_after(lab: Lab) -> None:
    for node in KEYS:
        for lun in lab.luns:
            assert (
                await ask_directly(lab, node, lun, "print((await lun.identity()).value.designator)")
            ) == lun.designator


async def ask_directly(lab: Lab, node: str, lun: Lun, question: str) -> str:
    """Run a line of Python on a node with a session of its own to a LUN, not the adapter's; returns what it prints."""
    script = f"""
import asyncio
from holdfast.storage.iscsi.address import Chap, IscsiAddress
from holdfast.storage.iscsi.session import IscsiSession
from holdfast.storage.scsi_lun import ScsiLun

async def main():
    session = await IscsiSession.connect(IscsiAddress(
        target={target_name(lab.layout)!r}, portals=({portal()!r},), initiator="iqn.2026-01.org.holdfast:{node}",
        chap=Chap(user={CHAP_USER!r}, password={CHAP_SECRET!r}),
    ))
    lun = ScsiLun(session.lun({lun.number}))
    {question}
    await session.close()

asyncio.run(main())
"""
    return (await lab.execute(node, "python", "-c", script)).output.strip()


async def test_one_preempt_removes_all_sessions_that_a_node_registered_with_its_key(lab: Lab) -> None:
    lun, key = lab.luns[0], KEYS["node1"]
    async with protected(lab, lun) as (one, two):
        registering = f"print(await lun.register(key={key}, existing=0, survives_power_loss=False))"
        assert "Done" in await ask_directly(lab, "node1", lun, registering)
        assert (one.keys() or []).count(key) == 2
        assert two.order(PREEMPT, KEYS["node2"], key) == GOOD
        assert two.keys() == [KEYS["node2"]]


async def test_a_lun_is_reached_by_nobody_who_does_not_know_the_secret(lab: Lab) -> None:
    address = f"iscsi://10.91.3.101/iqn.2026-01.org.holdfast.lab:{lab.layout.name}.storage1/1"
    told = await lab.execute("node1", "qemu-img", "info", address, check=False)
    assert told.exit_code != 0
    assert "Authentication failure" in told.errors


async def test_the_storage_node_has_a_plug_a_freezer_and_one_cable_and_keeps_its_blocks(lab: Lab) -> None:
    lun = lab.luns[0]
    told = (await lab.status()).node(STORAGE_NODE)
    assert [service.name for service in told.services or ()] == [TARGET_SERVICE]
    assert told.fence_fault is None
    async with unprotected(lab, lun):
        assert (await do_io(lab, "node1", lun, "write -P 9 0 4k")).exit_code == 0
    await lab.cut(STORAGE_NODE)
    assert (await lab.status()).node(STORAGE_NODE).cut == (Network.STORAGE,)
    await lab.heal(STORAGE_NODE)
    await lab.freeze(STORAGE_NODE)
    assert (await lab.status()).node(STORAGE_NODE).power is Power.FROZEN
    await lab.thaw(STORAGE_NODE)
    await lab.power_off(STORAGE_NODE)
    assert lun.path.read_bytes()[:4096] == b"\t" * 4096
    await lab.power_on(STORAGE_NODE)
    await wait_target(lab.layout)
    await wait_write(lab, "node1", lun, "read -P 9 0 4k")


async def test_a_preempted_node_cannot_write_and_another_can(lab: Lab) -> None:
    lun = lab.luns[0]
    async with protected(lab, lun) as (one, two):
        assert (await do_io(lab, "node1", lun, "write -P 1 0 4k")).exit_code == 0
        assert two.order(PREEMPT, KEYS["node2"], KEYS["node1"]) == GOOD
        assert one.keys() == [KEYS["node2"]]
        assert (await do_io(lab, "node1", lun, "write -P 2 0 4k")).exit_code != 0
        assert lun.path.read_bytes()[:4096] == b"\1" * 4096
        assert (await do_io(lab, "node2", lun, "write -P 3 0 4k")).exit_code == 0
        assert not one.is_registered(KEYS["node1"])


async def test_a_write_that_waited_in_a_frozen_adapter_does_not_reach_the_lun_after_the_preempt(lab: Lab) -> None:
    lun = lab.luns[0]
    adapter = adapter_service_name(lun)
    async with protected(lab, lun) as (_, two):
        writing = await asyncio.create_subprocess_exec(
            *await lab.joining_command("node1", *io_command(lun)), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        assert writing.stdin is not None
        assert writing.stdout is not None
        writing.stdin.write(b"read 0 4k\n")
        assert b"read 4096/4096" in await writing.stdout.readuntil(b"at offset")
        await lab.service_kill("node1", adapter, signal.SIGSTOP)
        writing.stdin.write(b"write -P 4 0 4k\n")
        await wait_until(partial(is_unread, lab, "node1", lun))
        assert two.order(PREEMPT, KEYS["node2"], KEYS["node1"]) == GOOD
        assert (await do_io(lab, "node2", lun, "write -P 5 0 4k", "flush")).exit_code == 0
        await lab.service_kill("node1", adapter, signal.SIGCONT)
        output = (await writing.communicate(b"quit\n"))[0]
    assert b"write failed" in output
    assert lun.path.read_bytes()[:4096] == b"\5" * 4096


async def is_unread(lab: Lab, node: str, lun: Lun) -> bool:
    """Whether a request waits at a node's adapter that the adapter has not taken yet."""
    sockets = (await lab.execute(node, "ss", "-Hx", "state", "established")).output
    return any(line.split()[1] != "0" for line in sockets.splitlines() if str(lun.nbd_socket) in line)


async def test_a_node_that_thaws_adds_no_record_to_its_guests_journal(lab: Lab) -> None:
    lun, guest = lab.luns[1], lab.guest("journal", 1)
    xml = lab.guest_xml(guest, lun=lun, has_disk_lock=False)
    create = ("virsh", "-q", "create", "/dev/stdin")
    async with protected(lab, lun) as (_, two):
        await lab.execute("node1", *create, stdin=xml)
        first = (await guest.wait_answer()).boot_id
        await wait_until(lambda: has_records(lun, first, 4), timeout_s=60)
        await lab.freeze("node1")
        assert two.order(PREEMPT, KEYS["node2"], KEYS["node1"]) == GOOD
        fenced_at = read_journal(lun.path).count(first)
        await lab.execute("node2", *create, stdin=xml)
        second = (await guest.wait_answer(other_than=first)).boot_id
        await lab.thaw("node1")

        async def is_paused() -> bool:
            return "paused" in (await lab.execute("node1", "virsh", "domstate", guest.name)).output

        await wait_until(is_paused, timeout_s=30)
        before = read_journal(lun.path).count(second)
        await wait_until(lambda: has_records(lun, second, before + 4), timeout_s=60)
    journal = read_journal(lun.path)
    assert journal.faults == ()
    assert journal.boots == [first, second]
    assert journal.count(first) == fenced_at
    for node in KEYS:
        await lab.execute(node, "virsh", "-q", "destroy", guest.name)


async def has_records(lun: Lun, boot_id: str, count: int) -> bool:
    return read_journal(lun.path).count(boot_id) >= count


async def test_a_session_that_logged_in_anew_is_not_registered_until_somebody_registers_it(lab: Lab) -> None:
    lun = lab.luns[0]
    async with protected(lab, lun) as (one, _):
        assert one.is_registered(KEYS["node1"])
        await drop_sessions(lab, "node1")

        async def is_back() -> bool:
            one.send(REGISTER, KEYS["node1"], KEYS["node1"])
            return one.reply().status == CONFLICT

        await wait_until(is_back, timeout_s=60)
        assert (await do_io(lab, "node1", lun, "write -P 6 0 4k")).exit_code != 0
        assert one.order(REGISTER, 0, KEYS["node1"]) == GOOD
        assert (await do_io(lab, "node1", lun, "write -P 6 0 4k")).exit_code == 0


async def drop_sessions(lab: Lab, node: str) -> None:
    """Close the connections of a node's adapters on the target's side; its reservations stay."""
    script = r"""
        tgtadm --lld iscsi --op show --mode conn --tid 1 | while read -r word number; do
            case $word in
                Session:) session=$number ;;
                Connection:) connection=$number ;;
                Initiator:) case $number in *:"$0") tgtadm --lld iscsi --op delete --mode conn --tid 1 \
                    --sid "$session" --cid "$connection" ;; esac ;;
            esac
        done"""
    await lab.execute(STORAGE_NODE, "sh", "-c", script, f"{lab.layout.name}.{node}")


async def test_a_register_that_was_under_way_is_not_repeated_on_a_new_session(lab: Lab) -> None:
    lun = lab.luns[0]
    with await Adapter.of(lab, "node1", lun) as one:
        one.keys()
        await lab.service_kill(STORAGE_NODE, TARGET_SERVICE, signal.SIGSTOP)
        one.send(REGISTER_AND_IGNORE, 0, KEYS["node1"])
        await lab.restart_target()
        reply = one.reply()
        assert (reply.status, reply.sense_key) == (CHECK_CONDITION, ABORTED_COMMAND)
        await wait_write(lab, "node1", lun, "read 0 4k")
        assert one.keys() == []


async def test_the_known_danger_a_restarted_target_lets_a_fenced_node_write(lab: Lab) -> None:
    """Tgtd forgets its reservations; who relies on such a target must notice and protect the LUN anew."""
    lun = lab.luns[0]
    async with protected(lab, lun) as (one, two):
        assert two.order(PREEMPT, KEYS["node2"], KEYS["node1"]) == GOOD
        assert (await do_io(lab, "node1", lun, "write -P 8 0 4k")).exit_code != 0
        await lab.restart_target()
        await wait_write(lab, "node1", lun, "write -P 8 0 4k")
        assert lun.path.read_bytes()[:4096] == b"\b" * 4096
        assert one.keys() == [], "nobody registers again by itself"
