"""`holdfast storage`: what it asks, what people see, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Holdfast, check_golden
from tests.unit.cli.daemon import Daemon
from tests.unit.cli.disk_documents import ADDED, BAD_CHECK, DATA, GOOD_CHECK, LOGS, SEEN

from holdfast.cli.disk_pages import DISK_LOOKS, STEP_LOOKS
from holdfast.model.disk_status import AddedDisk, CheckResult, RemovedDisk
from holdfast.model.disks import DiskState
from holdfast.model.errors import Refused

WAY = "sg:/dev/disk/by-id/wwn-0x6001"
ADD = ("storage", "add", "logs", "--designator", "naa.6001", "--reservations", WAY)


PORTAL = ("storage", "discover", "--portal", "192.0.2.1:3260")
CHAP = ("--chap-user", "node1", "--chap-password-file", "secret", "--initiator", "iqn.2026-01.net.example:n1")
GIVEN = {
    "disk": "logs",
    "designator": "naa.6001",
    "reservations": WAY,
    "accept_forgetful": False,
    "clear_keys": False,
    "protection": "node",
    "heartbeat": False,
    "wait": True,
}
ALL = {"guest_source": "/dev/b", "accept_forgetful": True, "clear_keys": True, "protection": "role", "wait": False}
ASKED: list[tuple[tuple[str, ...], str, dict[str, Any], object]] = [
    (("storage", "discover"), "storage.discover", {}, SEEN),
    (("storage", "discover", "--via", WAY), "storage.discover", {"ways": [WAY]}, SEEN),
    (PORTAL, "storage.discover", {"portal": "192.0.2.1:3260"}, ()),
    (
        (*PORTAL, *CHAP),
        "storage.discover",
        {
            "portal": "192.0.2.1:3260",
            "chap": {"user": "node1", "password": "word"},
            "initiator": "iqn.2026-01.net.example:n1",
        },
        (),
    ),
    (("storage", "list"), "storage.list", {}, (DATA, LOGS)),
    (("storage", "show", "data"), "storage.show", {"disk": "data"}, DATA),
    (("storage", "validate", "data"), "storage.validate", {"disk": "data"}, GOOD_CHECK),
    (("storage", "validate", WAY), "storage.rehearse", {"way": WAY}, GOOD_CHECK),
    (("storage", "remove", "data"), "storage.remove", {"disk": "data"}, RemovedDisk(name="data")),
    (ADD, "storage.add", GIVEN, ADDED),
    (
        (*ADD, "--guest-source", "/dev/b", "--accept-forgetful", "--clear-keys", "--protection", "role", "--no-wait"),
        "storage.add",
        {**GIVEN, **ALL},
        ADDED,
    ),
]


@pytest.fixture(autouse=True)
def secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("word\n")


@pytest.mark.parametrize("asked", ASKED)
def test_asks_and_answers_as_json(
    asked: tuple[tuple[str, ...], str, dict[str, Any], object], daemon: Daemon, holdfast: Holdfast
) -> None:
    arguments, method, params, result = asked
    daemon.on(method, result)
    ended = holdfast(*arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert daemon.asked == [(method, params)]
    json.loads(ended.out)


def test_pages(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.discover", SEEN)
    daemon.on("storage.list", (DATA, LOGS))
    daemon.on("storage.show", DATA)
    daemon.on("storage.validate", GOOD_CHECK)
    for words in ("discover", "list", "show data", "validate data"):
        ended = holdfast("storage", *words.split())
        assert (ended.code, ended.err) == (0, "")
        assert max(map(len, ended.out.splitlines())) <= 80
        check_golden(f"storage-{words.split()[0]}", ended.out)


def test_sentences(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.add", ADDED)
    assert holdfast(*ADD).out == "logs is added, and not ready on any node yet\n"
    daemon.on("storage.add", AddedDisk(disk=DATA, check=GOOD_CHECK))
    assert holdfast(*ADD).out == (
        "data is added, and ready on node1; node2: unreachable, no answer within 5000 ms; "
        "node3: expelled, this node was expelled from it\n"
    )
    daemon.on("storage.remove", RemovedDisk(name="data"))
    assert holdfast("storage", "remove", "data").out == "data is removed; what it holds is still there\n"
    daemon.on("storage.discover", ())
    assert "look elsewhere" in holdfast("storage", "discover").out


def test_a_disk_that_is_not_fit_ends_with_1(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.rehearse", BAD_CHECK)
    ended = holdfast("storage", "validate", WAY)
    assert ended.code == 1
    assert "failed" in ended.out
    assert "not fit for use" in ended.out
    assert json.loads(holdfast("storage", "validate", WAY, "--json").out)["is_fit"] is False


def test_a_refusal_names_the_next_step(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.remove", Refused("disk data is used by db1", hint="holdfast vm remove db1"))
    ended = holdfast("storage", "remove", "data")
    assert (ended.code, ended.err) == (1, "error: disk data is used by db1\nnext: holdfast vm remove db1\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--portal", "192.0.2.1:3260", "--via", WAY),
        ("--portal", "192.0.2.1:3260", "--chap-user", "a"),
        ("--initiator", "iqn.2026-01.net.example:n1"),
    ],
)
def test_options_that_exclude_each_other(arguments: tuple[str, ...], daemon: Daemon, holdfast: Holdfast) -> None:
    assert holdfast("storage", "discover", *arguments).code == 2
    assert daemon.asked == []


def test_every_state_has_a_look() -> None:
    assert set(DISK_LOOKS) == set(DiskState)
    assert set(STEP_LOOKS) == set(CheckResult)
