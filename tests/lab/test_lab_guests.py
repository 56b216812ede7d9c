"""Real guests on the lab's nodes: they boot, answer, shut down, and their disks tell who ran when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.lab.bare_lab import bare_lab, wait_until

from holdfast.lab import records
from holdfast.lab.construction import LabOptions
from holdfast.lab.guests import Guest
from holdfast.lab.lab import Lab

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with bare_lab("guests", LabOptions(nodes=2)) as lab:
        yield lab


async def start(lab: Lab, node: str, guest: Guest, *, has_disk_lock: bool = True) -> None:
    xml = lab.guest_xml(guest, has_disk_lock=has_disk_lock)
    await lab.execute(node, "virsh", "-q", "create", "/dev/stdin", stdin=xml)


async def test_a_guest_boots_answers_moves_with_its_disk_and_stops(lab: Lab) -> None:
    guest = lab.guest("mover", 1)
    guest.make_disk()
    await start(lab, "node1", guest)
    first = await guest.wait_answer()
    await lab.power_off("node1")
    assert await guest.ask() is None
    await start(lab, "node2", guest)
    second = await guest.wait_answer(other_than=first.boot_id)
    assert second.asked_at < second.answered_at

    async def has_lived() -> bool:
        return records.parse(guest.disk)[-1].beats >= 8

    async def is_gone() -> bool:
        return not (await lab.execute("node2", "virsh", "-q", "list", "--name")).output.strip()

    await wait_until(has_lived, timeout_s=30)
    await lab.execute("node2", "virsh", "-q", "shutdown", guest.name)
    await wait_until(is_gone, timeout_s=30)
    boots = records.parse(guest.disk)
    assert [boot.boot_id for boot in boots] == [first.boot_id, second.boot_id]
    assert [boot.is_stopped for boot in boots] == [False, True]
    assert boots[0].latest_ms < boots[1].first_ms + records.CLOCK_ERROR_MS
    assert records.overlaps(boots) == []
    serial = guest.serial_log.read_text(errors="replace")
    assert f"boot={first.boot_id}" in serial
    assert f"boot={second.boot_id}" in serial
    await lab.power_on("node1")


async def test_two_instances_at_once_are_caught_by_either_ones_records(lab: Lab) -> None:
    guest = lab.guest("twin", 2)
    guest.make_disk()
    await start(lab, "node1", guest, has_disk_lock=False)
    await guest.wait_answer()
    await start(lab, "node2", guest, has_disk_lock=False)

    async def both_said_so() -> bool:
        boots = records.parse(guest.disk)
        return len(boots) == 2 and all(boot.saw for boot in boots)

    await wait_until(both_said_so, timeout_s=60)
    older, younger = records.parse(guest.disk)
    assert older.saw == (f"later:{younger.boot_id}",)
    assert younger.saw == (f"earlier:{older.boot_id}",)
    async with asyncio.TaskGroup() as group:
        for node in ("node1", "node2"):
            group.create_task(lab.execute(node, "virsh", "-q", "destroy", guest.name))
    assert len(records.overlaps_on(guest.disk)) >= 2


async def test_memory_older_than_its_disk_is_caught(lab: Lab) -> None:
    guest = lab.guest("rewound", 3)
    guest.make_disk()
    await start(lab, "node1", guest)
    await guest.wait_answer()
    await lab.execute("node1", "virsh", "-q", "save", guest.name, "/srv/holdfast/shared/rewound.save")

    async def restore() -> None:
        before = records.parse(guest.disk)[0].beats
        await lab.execute("node1", "virsh", "-q", "restore", "/srv/holdfast/shared/rewound.save")

        async def has_beaten() -> bool:
            return records.parse(guest.disk)[0].beats >= before + 3 or bool(records.parse(guest.disk)[0].saw)

        await wait_until(has_beaten, timeout_s=30)
        await lab.execute("node1", "virsh", "-q", "destroy", guest.name)

    await restore()
    assert records.overlaps_on(guest.disk) == [], "saved memory used once is fine"
    await restore()
    (boot,) = records.parse(guest.disk)
    assert [what.partition(":")[0] for what in boot.saw] == ["rewound"]
