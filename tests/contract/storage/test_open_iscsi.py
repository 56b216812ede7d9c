"""Sessions of the kernel through iscsiadm: targets are found at a real tgtd, records are kept by iscsiadm."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.storage.iscsiadm_worlds import INSTALLED, NAME, Bench, make_bench

from holdfast.lab.bench.target import TARGET_NAME, OwnTarget, own_target
from holdfast.lab.tools import run_tool
from holdfast.model.errors import InvalidInput, NotFound, OutcomeUnknown
from holdfast.storage.errors import InitiatorFailed, InitiatorMissing, LoginRefused, LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.iscsi.discovery import TargetFound

CHAP = Chap(user="node1", password="a secret/of node1")
NOT_INSTALLED = "open-iscsi is no package that the tests need: its kernel part is missing where they run"


@pytest.fixture(
    params=["stand-in", pytest.param("real", marks=pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED))]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Both programs, where a login always fails because no iscsid runs."""
    return make_bench(tmp_path / "iscsiadm", real=INSTALLED if request.param == "real" else None)


@pytest.fixture
def stand_in(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "iscsiadm")


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[OwnTarget]:
    async with own_target(disks=1, folder=tmp_path) as target:
        yield target


async def log_in(bench: Bench, portal: str, target: str | None = None, chap: Chap | None = None) -> dict[str, str]:
    logins = await bench.initiator.log_in(portal, target, chap=chap, replacement_timeout_s=7)
    return {login.portal: login.problem for login in logins}


def fields(record: Path) -> dict[str, str]:
    pairs = (line.partition(" = ") for line in record.read_text().splitlines() if " = " in line)
    return {name: value for name, _, value in pairs}


def listing(target: str, *portals: str) -> str:
    """As iscsiadm prints it, with the lines that are read."""
    return "".join(
        f"Target: {target} (non-flash)\n\tPersistent Portal: {portal},1\n\t\tIface Initiatorname: {NAME}\n"
        f"\t\tSID: {number}\n\t\tiSCSI Session State: LOGGED_IN\n"
        for number, portal in enumerate(portals)
    )


async def test_a_login_that_fails_leaves_no_record_and_says_what_is_missing(bench: Bench, target: OwnTarget) -> None:
    with pytest.raises((InitiatorFailed, InitiatorMissing), match=r"iscsid does not run|iscsi_tcp"):
        await log_in(bench, target.portal)
    assert f"-T {TARGET_NAME} -p {target.portal},1 --login" in bench.asked
    assert bench.records() == []
    assert await bench.initiator.sessions() == ()


async def test_a_record_that_was_there_stays_with_the_secret_which_is_never_an_argument(
    bench: Bench, target: OwnTarget
) -> None:
    where = ("-T", TARGET_NAME, "-p", f"{target.portal},1")
    await run_tool(bench.initiator.program, "-m", "node", *where, "-o", "new")
    with pytest.raises((InitiatorFailed, InitiatorMissing)):
        await log_in(bench, target.portal, chap=CHAP)
    [record] = bench.records()
    kept = fields(record)
    assert kept["node.startup"] == "automatic"
    assert kept["node.session.timeo.replacement_timeout"] == "7"
    assert kept["node.session.auth.authmethod"] == "CHAP"
    assert (kept["node.session.auth.username"], kept["node.session.auth.password"]) == (CHAP.user, CHAP.password)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert CHAP.password not in bench.asked
    assert bench.asked.count("-o new") == 1  # ours, which made it; another would have reset it
    assert not [path for path in (bench.home / "iscsi").iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)
async def test_the_real_one_reads_the_secret_that_was_written_and_keeps_it(target: OwnTarget, tmp_path: Path) -> None:
    bench = make_bench(tmp_path / "iscsiadm", real=INSTALLED)
    where = ("-m", "node", "-T", TARGET_NAME, "-p", f"{target.portal},1")
    await run_tool(bench.initiator.program, *where, "-o", "new")
    for _ in range(2):
        with pytest.raises((InitiatorFailed, InitiatorMissing)):
            await log_in(bench, target.portal, chap=CHAP)
    await run_tool(bench.initiator.program, *where, "-o", "update", "-n", "node.startup", "-v", "manual")
    shown = await run_tool(bench.initiator.program, *where, "-o", "show", "-S")
    assert f"node.session.auth.password = {CHAP.password}\n" in shown
    assert "node.session.auth.authmethod = CHAP\n" in shown


async def test_a_target_that_is_not_offered_is_not_found(bench: Bench, target: OwnTarget) -> None:
    with pytest.raises(NotFound, match="does not offer") as caught:
        await log_in(bench, target.portal, "iqn.2026-11.net.holdfast:another")
    assert TARGET_NAME in caught.value.hint
    assert " node " not in bench.asked


async def test_logging_out_of_what_is_not_known_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="not logged in"):
        await bench.initiator.log_out(TARGET_NAME, None)


async def test_a_rescan_without_sessions_is_none(bench: Bench) -> None:
    await bench.initiator.rescan()
    assert "-m session --rescan" in bench.asked


async def test_a_target_is_logged_in_through_each_of_its_portals(stand_in: Bench) -> None:
    first, second = "192.0.2.1:3260", "[2001:db8::1]:3260"

    async def two_portals(portal: str, *, initiator: str, chap: Chap | None) -> tuple[TargetFound, ...]:
        """What tgtd cannot offer: it tells only of the portal that it is asked at."""
        assert (portal, initiator, chap) == (first, NAME, None)
        return (TargetFound(target=TARGET_NAME, portals=(first, second, "a-name:3260"), portal_groups=(1, 2, 3)),)

    bench = replace(stand_in, initiator=replace(stand_in.initiator, discover=two_portals))
    bench.logins_end_with(0, **{second: 8})
    ended = await log_in(bench, first)
    assert ended[first] == ""
    assert "did not answer in time" in ended[second]
    assert "no portal" in ended["a-name:3260"]
    assert [path.parent.name for path in bench.records()] == ["192.0.2.1,3260,1"]
    assert f"-T {TARGET_NAME} -p {second},2 --login" in bench.asked
    assert "a-name" not in bench.asked
    assert (bench.home / "settled").read_text() == "settle --timeout=10\n"
    bench.logins_end_with(0)
    assert (await log_in(bench, first))[second] == ""
    assert [path.parent.name for path in bench.records()] == ["192.0.2.1,3260,1", "2001:db8::1,3260,2"]


async def test_when_no_portal_lets_the_node_in_the_reason_is_raised(stand_in: Bench, target: OwnTarget) -> None:
    stand_in.logins_end_with(24)
    with pytest.raises(LoginRefused, match="ended with 24"):
        await log_in(stand_in, target.portal)
    assert not (stand_in.home / "settled").exists()


async def test_what_is_logged_in_already_is_not_logged_in_again(stand_in: Bench, target: OwnTarget) -> None:
    stand_in.logins_end_with(1)
    stand_in.list_sessions(listing(TARGET_NAME, target.portal))
    assert await log_in(stand_in, target.portal, chap=CHAP) == {target.portal: ""}
    assert "--login" not in stand_in.asked
    [record] = stand_in.records()
    assert fields(record)["node.session.auth.password"] == CHAP.password


async def test_a_session_that_came_meanwhile_is_as_good(stand_in: Bench, target: OwnTarget) -> None:
    stand_in.logins_end_with(15)
    assert await log_in(stand_in, target.portal) == {target.portal: ""}
    assert len(stand_in.records()) == 1


async def test_a_login_without_end_is_unknown_and_its_record_stays(tmp_path: Path, target: OwnTarget) -> None:
    bench = make_bench(tmp_path / "slow", login_ms=1000)
    bench.logins_end_with("hangs")
    async with asyncio.timeout(20):
        with pytest.raises(OutcomeUnknown, match="1000 ms"):
            await log_in(bench, target.portal)
    assert len(bench.records()) == 1
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(os.fsencode(bench.initiator.program) in command for command in commands)


async def test_logging_out_ends_each_session_and_forgets_the_target(stand_in: Bench, target: OwnTarget) -> None:
    stand_in.logins_end_with(0)
    await log_in(stand_in, target.portal)
    stand_in.list_sessions(listing(TARGET_NAME, target.portal, "192.0.2.9:3260") + listing("iqn.2026-11.a:b", "x:1"))
    stand_in.logins_end_with(28)
    with pytest.raises(InitiatorFailed, match="in use"):
        await stand_in.initiator.log_out(TARGET_NAME, target.portal)
    assert len(stand_in.records()) == 1
    stand_in.logins_end_with(0)
    assert await stand_in.initiator.log_out(TARGET_NAME, target.portal) == (target.portal,)
    assert stand_in.records() == []
    assert stand_in.asked.count("--logout") == 2


async def test_who_offers_chap_finds_targets_that_demand_it(stand_in: Bench) -> None:
    stand_in.logins_end_with(0)
    async with own_target(disks=1, chap=CHAP) as target:
        assert await log_in(stand_in, target.portal, TARGET_NAME, CHAP) == {target.portal: ""}


async def test_a_portal_where_nobody_is_says_so(stand_in: Bench) -> None:
    with pytest.raises(LunUnreachable, match=r"127.0.0.1:1:"):
        await log_in(stand_in, "127.0.0.1:1")
    assert " node " not in stand_in.asked


async def test_a_missing_program_is_named_with_its_package(stand_in: Bench) -> None:
    missing = replace(stand_in.initiator, program="holdfast-has-no-iscsiadm")
    with pytest.raises(InitiatorMissing, match="not installed") as caught:
        await missing.sessions()
    assert "open-iscsi" in caught.value.hint


async def test_a_missing_udev_does_not_undo_a_login(stand_in: Bench, target: OwnTarget) -> None:
    stand_in.logins_end_with(0)
    logins = await replace(stand_in.initiator, settle="holdfast-has-no-udevadm").log_in(
        target.portal, None, chap=None, replacement_timeout_s=5
    )
    assert [login.problem for login in logins] == [""]


async def test_the_initiators_name_is_read_and_demanded(stand_in: Bench) -> None:
    assert await stand_in.initiator.name() == NAME
    stand_in.initiator.initiator_file.write_text("GenerateName=yes\n")
    with pytest.raises(InitiatorMissing, match="no InitiatorName"):
        await stand_in.initiator.name()
    stand_in.initiator.initiator_file.unlink()
    with pytest.raises(InitiatorMissing, match="cannot be read"):
        await stand_in.initiator.name()


@pytest.mark.parametrize(
    "name", ["iqn.2026-11.x:../../../etc", "-o", "iqn.2026-11.x:a b", "array", "iqn.2026-11.x:a\n"]
)
async def test_names_that_are_no_targets_are_refused_before_anything_is_asked(name: str, stand_in: Bench) -> None:
    for act in (
        stand_in.initiator.log_out(name, None),
        stand_in.initiator.log_in("192.0.2.1:3260", name, chap=None, replacement_timeout_s=5),
        stand_in.initiator.log_out(TARGET_NAME, "target.example.net:3260"),
    ):
        with pytest.raises(InvalidInput):
            await act
    assert stand_in.asked == ""


@pytest.mark.parametrize("password", ["line\nnode.startup = manual", " padded", "x" * 256, ""])
async def test_a_secret_that_a_record_cannot_hold_is_refused_before_anything_is_asked(
    password: str, stand_in: Bench
) -> None:
    with pytest.raises(InvalidInput, match="password"):
        await log_in(stand_in, "192.0.2.1:3260", chap=Chap(user="node1", password=password))
    assert stand_in.asked == ""
