"""`holdfast storage login`, `logout`, `sessions`, `rescan`: what they ask, what people see, and how they end."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Holdfast, check_golden
from tests.unit.cli.daemon import Daemon

from holdfast.model.kernel_sessions import (
    KernelSession,
    LoginReport,
    LogoutReport,
    PortalLogin,
    SessionDisk,
    SessionList,
)
from holdfast.storage.errors import InitiatorMissing

TARGET = "iqn.2026-01.net.example:array"
PORTAL = "192.0.2.1:3260"
OVER = "multipath:/dev/disk/by-id/dm-uuid-mpath-36001405a1"
SESSIONS = SessionList(
    node="node1",
    initiator="iqn.2026-01.net.example:node1",
    sessions=(
        KernelSession(
            id=1,
            target=TARGET,
            portal=PORTAL,
            state="LOGGED_IN",
            replacement_timeout_s=5,
            disks=(
                SessionDisk(lun=1, device="/dev/sdb", state="running", wwid="naa.6", multipath="/dev/dm-3", way=OVER),
                SessionDisk(lun=2, device="/dev/sdc", state="running", wwid="t10.IET 2"),
            ),
        ),
        KernelSession(id=2, target=TARGET, portal="192.0.2.2:3260", state="FAILED"),
    ),
    warnings=(f"{TARGET} through 192.0.2.2:3260 is FAILED",),
)
IN = LoginReport(logins=(PortalLogin(target=TARGET, portal=PORTAL),), now=SESSIONS)
HALF = LoginReport(
    logins=(*IN.logins, PortalLogin(target=TARGET, portal="192.0.2.2:3260", problem=f"{TARGET}: no answer")),
    now=SESSIONS,
)
OUT = LogoutReport(node="node1", target=TARGET, portals=(PORTAL, "192.0.2.2:3260"))
CHAP = {"user": "node1", "password": "word"}
ASKED: list[tuple[tuple[str, ...], str, dict[str, Any], object]] = [
    (("login", PORTAL), "storage.login", {"portal": PORTAL}, IN),
    (
        (
            "login",
            PORTAL,
            TARGET,
            "--chap-user",
            "node1",
            "--chap-password-file",
            "secret",
            "--replacement-timeout",
            "0",
        ),
        "storage.login",
        {"portal": PORTAL, "target": TARGET, "chap": CHAP, "replacement_timeout_s": 0},
        IN,
    ),
    (("logout", TARGET), "storage.logout", {"target": TARGET}, OUT),
    (("logout", TARGET, "--portal", PORTAL), "storage.logout", {"target": TARGET, "portal": PORTAL}, OUT),
    (("sessions",), "storage.sessions", {}, SESSIONS),
    (("rescan",), "storage.rescan", {}, SESSIONS),
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
    ended = holdfast("storage", *arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert daemon.asked == [(method, params)]
    json.loads(ended.out)


def test_sessions_are_shown_with_their_disks_and_warnings(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.sessions", SESSIONS)
    ended = holdfast("storage", "sessions")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    check_golden("storage-sessions", ended.out)


def test_a_login_that_failed_at_one_portal_ends_with_1_and_says_why(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.login", IN)
    assert holdfast("storage", "login", PORTAL).code == 0
    daemon.on("storage.login", HALF)
    ended = holdfast("storage", "login", PORTAL)
    assert ended.code == 1
    assert f"not logged in: {TARGET}: no answer\n" in ended.out


def test_a_logout_names_the_portals(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.logout", OUT)
    assert holdfast("storage", "logout", TARGET).out == (
        f"node1 is logged out of {TARGET}, through 192.0.2.1:3260, 192.0.2.2:3260\n"
    )
    daemon.on("storage.logout", LogoutReport(node="node1", target=TARGET, portals=()))
    assert "there was no session" in holdfast("storage", "logout", TARGET).out


def test_a_missing_module_names_the_next_step(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("storage.login", InitiatorMissing("no module", hint="modprobe iscsi_tcp"))
    ended = holdfast("storage", "login", PORTAL)
    assert (ended.code, ended.err) == (2, "error: no module\nnext: modprobe iscsi_tcp\n")


def test_a_user_without_a_password_is_refused_before_anything_is_asked(daemon: Daemon, holdfast: Holdfast) -> None:
    assert holdfast("storage", "login", PORTAL, "--chap-user", "node1").code == 2
    assert daemon.asked == []
