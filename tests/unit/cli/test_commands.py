"""What commands ask, what they answer to programs, and how they end."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.conftest import Holdfast
from tests.unit.cli.daemon import Daemon
from tests.unit.cli.documents import EVENTS, EXPLANATIONS, LOST, NOON_MS, WELL, node, role

from holdfast.client.answers import ConfirmedDown, FenceAnswer, ForgottenCluster, IssuedToken, Presence
from holdfast.model.errors import Conflict, HoldfastError, InvalidInput, NotFound, OutcomeUnknown, Refused, Unavailable
from holdfast.model.setting_pages import SettingsChange
from holdfast.model.status import (
    BalanceMove,
    BalanceReport,
    DrainReport,
    MoveOutcome,
    PastMove,
    Progress,
    RoleState,
)
from holdfast.model.transfers import Transfer

CREATE = ("cluster", "create", "demo", "--node", "node1", "--address", "cluster-a=10.0.0.1")
ADD = ("vm", "add", "web1.xml")
DRAIN = DrainReport(node="node2", is_dry_run=False, moves={"web1": "node1"}, staying={"db1": ("node1 is paused",)})

BALANCE = BalanceReport(
    is_dry_run=True,
    threshold_percent=20,
    moves=(BalanceMove(role="web1", source="node1", target="node2", memory_bytes=2 << 30),),
    before={"node1": 75.0, "node2": 12.5},
    after={"node1": 50.0, "node2": 37.5},
    is_within=True,
)


@pytest.fixture(autouse=True)
def domain_file(tmp_path: Path) -> None:
    (tmp_path / "web1.xml").write_text("<domain/>")


@pytest.mark.parametrize(
    ("arguments", "method", "params", "result"),
    [
        (
            (*CREATE, "--address", "cluster-b=fd00::1", "--shared-directory", "/srv/vms", "--set", "vcpu_overcommit=2"),
            "cluster.create",
            {
                "cluster": "demo",
                "node": "node1",
                "addresses": {"cluster-a": "10.0.0.1", "cluster-b": "fd00::1"},
                "shared_directories": ["/srv/vms"],
                "settings": {"vcpu_overcommit": "2"},
            },
            Presence(node="node1", cluster="demo", version="1"),
        ),
        (
            ("cluster", "set", "--dry-run", "timings.patience_ms", "8000", "vcpu_overcommit", "2"),
            "cluster.set",
            {"changes": {"timings.patience_ms": "8000", "vcpu_overcommit": "2"}, "dry_run": True},
            SettingsChange(is_dry_run=True, before={"vcpu_overcommit": 4}, after={"vcpu_overcommit": 2}),
        ),
        (
            ("token", "create", "--ttl", "90m"),
            "token.create",
            {"ttl_s": 5400},
            IssuedToken(token="hf1.x", expires_at_ms=1),
        ),
        (
            ("node", "join", "hf1.x", "--node", "node2", "--address", "cluster-a=10.0.0.2", "--port", "join=7001"),
            "node.join",
            {"token": "hf1.x", "node": "node2", "addresses": {"cluster-a": "10.0.0.2"}, "ports": {"join": 7001}},
            Presence(node="node2", cluster="demo", version="1"),
        ),
        (("node", "pause", "node2"), "node.set", {"node": "node2", "paused": True}, node(2)),
        (("node", "resume", "node2"), "node.resume", {"node": "node2", "failback": "policy"}, node(2)),
        (
            ("node", "resume", "node2", "--failback", "now"),
            "node.resume",
            {"node": "node2", "failback": "now"},
            node(2),
        ),
        (
            ("node", "drain", "node2"),
            "node.drain",
            {"node": "node2", "dry_run": False, "wait": False, "force": False},
            DRAIN,
        ),
        (
            ("node", "drain", "node2", "--dry-run", "--wait", "--force"),
            "node.drain",
            {"node": "node2", "dry_run": True, "wait": True, "force": True},
            DRAIN,
        ),
        (("balance",), "cluster.balance", {"dry_run": False}, BALANCE),
        (
            ("balance", "--threshold", "10", "--dry-run"),
            "cluster.balance",
            {"threshold_percent": 10, "dry_run": True},
            BALANCE,
        ),
        (("node", "prepare-shutdown"), "node.prepare-shutdown", {}, replace(DRAIN, moves={}, staying={})),
        (("node", "set", "node2", "--site", "east"), "node.set", {"node": "node2", "site": "east"}, node(2)),
        (("node", "set", "node2", "--no-site"), "node.set", {"node": "node2", "site": None}, node(2)),
        (
            ("node", "set", "node2", "--fault-domain", "power:A", "--no-fault-domain", "power:B"),
            "node.set",
            {"node": "node2", "fault_domains": {"power:A": True, "power:B": False}},
            node(2),
        ),
        (
            ("cluster", "freeze", "--by", "Ada", "--reason", "new switches"),
            "cluster.freeze",
            {"person": "Ada", "reason": "new switches"},
            {"cluster": "demo", "is_frozen": True},
        ),
        (("cluster", "unfreeze"), "cluster.unfreeze", {}, {"cluster": "demo", "is_frozen": False}),
        (("role", "move", "web1"), "role.move", {"role": "web1", "wait": True}, role("web1")),
        (
            ("role", "move", "web1", "--to", "node2", "--no-wait"),
            "role.move",
            {"role": "web1", "to": "node2", "wait": False},
            role("web1", target="node2"),
        ),
        (
            ("role", "move", "web1", "--method", "live", "--timeout", "10m"),
            "role.move",
            {"role": "web1", "wait": True, "method": "live", "timeout_s": 600},
            role("web1"),
        ),
        (
            ("role", "discard-saved-state", "web1", "--yes", "--by", "Ada"),
            "role.discard-saved-state",
            {"role": "web1", "person": "Ada"},
            role("web1"),
        ),
        (
            ("role", "set", "web1", "--move-method", "quick"),
            "role.set",
            {"role": "web1", "move_method": "quick"},
            role("web1"),
        ),
        (
            ("node", "drain", "node2", "--method", "live"),
            "node.drain",
            {"node": "node2", "dry_run": False, "wait": False, "force": False, "method": "live"},
            DRAIN,
        ),
        (("role", "move", "web1", "--cancel"), "role.cancel", {"role": "web1"}, role("web1")),
        (
            (
                *("role", "set", "web1", "--affinity", "db", "--anti-affinity", "web:hard", "--failback", "22-5"),
                *("--preferred-site", "east", "--no-preferred-owner"),
            ),
            "role.set",
            {
                "role": "web1",
                "affinity": [{"name": "db", "is_hard": False}],
                "anti_affinity": [{"name": "web", "is_hard": True}],
                "failback": {"policy": "window", "from_hour": 22, "until_hour": 5},
                "preferred_site": "east",
                "preferred_owners": [],
            },
            role("web1"),
        ),
        (
            (
                "role",
                "set",
                "web1",
                "--no-affinity",
                "--no-anti-affinity",
                "--no-preferred-site",
                "--failback",
                "never",
            ),
            "role.set",
            {
                "role": "web1",
                "affinity": [],
                "anti_affinity": [],
                "preferred_site": "",
                "failback": {"policy": "never"},
            },
            role("web1"),
        ),
        (("node", "set", "node2", "--no-fence"), "node.set", {"node": "node2", "fence": None}, node(2)),
        (
            ("node", "set", "node2", "--memory", "2GiB", "--fence-agent", "fence_x", "--fence-option", "ip=10.0.0.9"),
            "node.set",
            {"node": "node2", "memory_bytes": 2 << 30, "fence": {"agent": "fence_x", "options": {"ip": "10.0.0.9"}}},
            node(2),
        ),
        (
            ("node", "confirm-down", "node3", "--yes", "--by", "Ada", "--reason", "unplugged"),
            "node.confirm-down",
            {"node": "node3", "person": "Ada", "reason": "unplugged"},
            ConfirmedDown(node="node3", incarnation="i"),
        ),
        (
            ("node", "forget", "--yes", "demo"),
            "node.forget",
            {"cluster": "demo"},
            ForgottenCluster(node="node3", cluster="demo", kept="/var/lib/holdfast/forgotten-1"),
        ),
        (
            (*ADD, "--offline", "--priority", "high", "--preferred-owner", "node2", "--shutdown-timeout", "90s"),
            "vm.add",
            {
                "domain_xml": "<domain/>",
                "wanted": "offline",
                "priority": "high",
                "preferred_owners": ["node2"],
                "shutdown_timeout_ms": 90_000,
            },
            role("web1"),
        ),
        (("vm", "start", "web1"), "vm.start", {"role": "web1", "wait": True}, role("web1")),
        (
            ("vm", "stop", "web1", "--no-wait"),
            "vm.stop",
            {"role": "web1", "wait": False},
            role("web1", state=RoleState.STOPPING),
        ),
        (("vm", "remove", "web1", "--force"), "vm.remove", {"role": "web1", "force": True}, {"name": "web1"}),
        (
            ("vm", "set", "web1", "--any-owner", "--preferred-owner", "node1", "--restart-limit", "0"),
            "role.set",
            {"role": "web1", "preferred_owners": ["node1"], "possible_owners": [], "restart_limit": 0},
            role("web1"),
        ),
        (("vm", "show", "web1", "--xml"), "vm.xml", {"role": "web1"}, {"domain_xml": "<domain/>\n"}),
    ],
)
def test_what_is_asked(  # noqa: PLR0917
    arguments: tuple[str, ...],
    method: str,
    params: dict[str, Any],
    result: object,
    daemon: Daemon,
    holdfast: Holdfast,
) -> None:
    daemon.on(method, result)
    for as_json in ((), ("--json",)):
        ended = holdfast(*arguments, *as_json)
        assert ended.code == 0, ended.err
        assert daemon.asked.pop() == (method, params)
        assert ended.out
        if as_json:
            json.loads(ended.out)


def test_the_token_alone_is_on_stdout(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("token.create", IssuedToken(token="hf1.x", expires_at_ms=1))
    ended = holdfast("token", "create")
    assert ended.out == "hf1.x\n"
    assert "holdfast node join TOKEN" in ended.err


def test_fence_options_from_a_file_stay_out_of_the_arguments(
    daemon: Daemon, holdfast: Holdfast, tmp_path: Path
) -> None:
    (tmp_path / "ipmi.conf").write_text("# of the board\nip=192.0.2.7\n\npasswd=a=b\n")
    daemon.on("node.set", node(2))
    holdfast("node", "set", "node2", "--fence-agent", "fence_ipmilan", "--fence-options-file", "ipmi.conf")
    options = {"ip": "192.0.2.7", "passwd": "a=b"}
    assert daemon.asked == [("node.set", {"node": "node2", "fence": {"agent": "fence_ipmilan", "options": options}})]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HoldfastError("it broke"), 1),
        (Refused("it broke"), 1),
        (Conflict("it broke"), 1),
        (InvalidInput("it broke"), 2),
        (NotFound("it broke"), 3),
        (Unavailable("it broke"), 4),
        (OutcomeUnknown("it broke"), 5),
    ],
)
def test_errors_of_the_daemon(error: HoldfastError, code: int, daemon: Daemon, holdfast: Holdfast) -> None:
    error.hint = "mend it"
    daemon.on("explain", error)
    ended = holdfast("explain", "role", "web1")
    assert (ended.code, ended.out, ended.err) == (code, "", "error: it broke\nnext: mend it\n")


def test_no_daemon(holdfast: Holdfast, tmp_path: Path) -> None:
    ended = holdfast("status")
    assert ended.code == 4
    assert f"error: holdfastd does not listen at {tmp_path / 'd.sock'}" in ended.err
    assert "next: systemctl start holdfastd" in ended.err


def test_the_socket_option_wins(daemon: Daemon, holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_SOCKET", "/nonexistent")
    daemon.on("status", WELL)
    assert holdfast("--socket", str(daemon.socket), "status").code == 0
    assert holdfast("status").code == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("cluster", "create", "demo", "--node", "a", "--address", "n=10.0.0.300"),
            "'10.0.0.300' in 'n=10.0.0.300' is",
        ),
        (("cluster", "create", "demo", "--node", "a", "--address", "10.0.0.3"), "'10.0.0.3' is not NETWORK=IP"),
        (("cluster", "create", "demo", "--node", "a"), "'--address'"),
        ((*CREATE, "--address", "cluster-a=10.0.0.2"), "'cluster-a' is given 2 times"),
        ((*CREATE, "--port", "join=99999"), "'99999' in 'join=99999' is not 1 to 65535"),
        ((*CREATE, "--port", "ssh=22"), "there is no port 'ssh'; ports are heartbeat, join"),
        ((*CREATE, "--set", "patience"), "'patience' is not NAME=VALUE, for example timings.patience_ms=8000"),
        (("token", "create", "--ttl", "soon"), "'soon' is not a duration, for example 90s"),
        (("node", "set", "node1", "--memory", "lots"), "'lots' is not a size"),
        (("node", "set", "node1", "--fault-domain", "A"), "'A' is not KIND:NAME, for example power:A"),
        (
            ("node", "set", "node1", "--fault-domain", "power:A", "--no-fault-domain", "power:A"),
            "contradict each other about 'power:A'",
        ),
        (("witness", "join", "hf1.x", "--fault-domain", "power"), "'power' is not KIND:NAME"),
        (("node", "set", "node1"), "nothing to change on 'node1'"),
        (("node", "set", "node1", "--fence-option", "ip=1"), "without --fence-agent"),
        (("vm", "set", "web1"), "nothing to change on 'web1'"),
        (("vm", "set", "web1", "--possible-owner", "a", "--any-owner"), "given and cleared at the same time"),
        (("vm", "add", "missing.xml"), "'missing.xml': No such file or directory"),
        (("vm", "add", "."), "'.': Is a directory"),
        (("vm", "add", "binary.xml"), "'binary.xml' is no UTF-8 text"),
        (("vm", "add", "f", "--priority", "urgent"), "'urgent' is not one of 'high'"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_invalid_input_is_named_before_anything_is_asked(
    arguments: tuple[str, ...], complaint: str, daemon: Daemon, holdfast: Holdfast, tmp_path: Path
) -> None:
    (tmp_path / "binary.xml").write_bytes(b"\xff\xfe\x00")
    ended = holdfast(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert complaint in ended.err
    assert "\nnext: " in ended.err
    assert daemon.asked == []


def test_names_that_do_not_exist(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("status", WELL)
    for group, name, known in (("vm", "nope", "db, web1"), ("node", "nope", "node1, node2, node3")):
        ended = holdfast(group, "show", name)
        assert ended.code == 3
        assert "'nope'" in ended.err
        assert known in ended.err


def test_a_start_that_ends_blocked_failed(daemon: Daemon, holdfast: Holdfast) -> None:
    blocked = LOST.roles[1]
    daemon.on("vm.start", blocked, items=(Progress(text="web1 is starting on node2"),))
    ended = holdfast("vm", "start", "web1")
    assert (ended.code, ended.out) == (1, "")
    assert "web1 is starting on node2\nerror: web1 is blocked, owned by node3: there is no proof" in ended.err
    assert "next: holdfast explain role web1" in ended.err
    ended = holdfast("vm", "start", "web1", "--json")
    assert (ended.code, json.loads(ended.out)["state"]) == (1, "blocked")


def test_a_fence_device_that_does_not_know_failed(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("node.fence-test", FenceAnswer(state="unknown", detail="timed out"))
    ended = holdfast("node", "fence-test", "node2")
    assert (ended.code, ended.out) == (1, "the fence device reports node2 as unknown: timed out\n")


@pytest.mark.parametrize(("typed", "asked"), [("node3", True), ("node2", False), ("", False)])
def test_confirm_down_wants_the_name_typed(  # noqa: PLR0917
    typed: str, asked: bool, daemon: Daemon, holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "typed").write_text(typed + "\n")
    daemon.on("node.confirm-down", ConfirmedDown(node="node3", incarnation="i"))
    with (tmp_path / "typed").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ended = holdfast("node", "confirm-down", "node3", "--by", "Ada")
    assert ended.code == (0 if asked else 1)
    assert "will run twice" in ended.err
    assert bool(daemon.asked) == asked


@pytest.mark.parametrize(("typed", "asked"), [("demo", True), ("node3", False), ("", False)])
def test_forgetting_wants_the_name_of_the_cluster_typed(  # noqa: PLR0917
    typed: str, asked: bool, daemon: Daemon, holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "typed").write_text(typed + "\n")
    daemon.on("ping", Presence(node="node3", cluster="demo", version="1"))
    daemon.on("node.forget", ForgottenCluster(node="node3", cluster="demo", kept="/k"))
    with (tmp_path / "typed").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ended = holdfast("node", "forget")
    assert ended.code == (0 if asked else 1)
    assert "node3 ends the guests of roles on this machine and forgets cluster demo" in ended.err
    assert daemon.asked == [("ping", {}), *([("node.forget", {"cluster": "demo"})] if asked else [])]
    assert ("what it had of it is kept in /k" in ended.out) == asked


def test_a_machine_in_no_cluster_has_nothing_to_forget(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("ping", Presence(node=None, cluster=None, version="1"))
    ended = holdfast("node", "forget")
    assert (ended.code, ended.err.splitlines()[0]) == (1, "error: this machine is not in a cluster")


def test_json_is_the_document(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("status", LOST)
    daemon.on("events", EVENTS)
    daemon.on("explain", EXPLANATIONS["blocked"])
    status = json.loads(holdfast("status", "--json").out)
    assert status["nodes"][2]["state"] == "lost"
    assert status["roles"][1]["reasons"] == list(LOST.roles[1].reasons)
    assert json.loads(holdfast("node", "list", "--json").out) == status["nodes"]
    assert json.loads(holdfast("node", "show", "node3", "--json").out) == status["nodes"][2]
    assert json.loads(holdfast("vm", "list", "--json").out) == status["roles"]
    assert json.loads(holdfast("vm", "show", "web1", "--json").out) == status["roles"][1]
    assert json.loads(holdfast("events", "--json").out)[0]["event"]["code"] == "node-lost"
    assert json.loads(holdfast("explain", "role", "web1", "--json").out)["elsewhere"]["node1"] == []


def test_watching_prints_changes_and_says_when_the_daemon_ends(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.stream("status.watch", WELL, WELL, LOST)
    ended = holdfast("status", "--watch")
    assert ended.code == 4
    assert "holdfastd closed the connection" in ended.err
    assert [line[25:] for line in ended.out.splitlines()].count("cluster demo: all well") == 1
    assert any(line.endswith("node3 is lost, because " + LOST.nodes[2].reasons[0]) for line in ended.out.splitlines())
    lines = holdfast("status", "--watch", "--json").out.splitlines()
    assert [json.loads(line)["nodes"][2]["state"] for line in lines] == ["up", "lost"]


def test_following_events(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.stream("events.follow", *EVENTS)
    ended = holdfast("events", "--follow", "--limit", "7", "--json")
    assert ended.code == 4
    assert [json.loads(line)["event"]["subject"] for line in ended.out.splitlines()] == ["node3", "node3", "web1"]
    assert daemon.asked == [("events.follow", {"limit": 7})]


@pytest.mark.parametrize("arguments", [("status", "--watch"), ("vm", "start", "web1")])
def test_ctrl_c_ends_quietly(arguments: tuple[str, ...], daemon: Daemon) -> None:
    daemon.silence("status.watch")
    daemon.silence("vm.start")
    heeding = ("env", "--default-signal=INT")  # a test run in the background of a script inherits that it is ignored
    command = [*heeding, sys.executable, "-m", "holdfast.cli", *arguments]
    environment = os.environ | {"HOLDFAST_SOCKET": str(daemon.socket)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until_asked(daemon)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert ("may still be done" in err) == (arguments[0] == "vm")


def wait_until_asked(daemon: Daemon) -> None:
    """Wait until a command has reached the daemon, at most 20 s."""
    pause = threading.Event()
    for _ in range(400):
        if daemon.asked:
            return
        pause.wait(0.05)
    raise AssertionError("nothing was asked")


def test_a_path_that_no_socket_can_have(holdfast: Holdfast) -> None:
    long = "/tmp/" + "x" * 120
    ended = holdfast("--socket", long, "status")
    assert ended.code == 2
    assert "too long for a socket" in ended.err


def test_a_reader_that_goes_away_is_no_traceback(daemon: Daemon) -> None:
    daemon.on("events", EVENTS * 5000)
    script = f"{sys.executable} -m holdfast.cli events | head -1"
    environment = os.environ | {"HOLDFAST_SOCKET": str(daemon.socket)}
    ended = subprocess.run(
        ["bash", "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=30
    )
    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("role", "move", "web1", "--cancel", "--to", "node2"),
        ("role", "set", "web1"),
        ("role", "set", "web1", "--affinity", "db", "--no-affinity"),
        ("role", "set", "web1", "--preferred-site", "east", "--no-preferred-site"),
        ("role", "set", "web1", "--affinity", "no label"),
        ("role", "set", "web1", "--failback", "24-5"),
        ("role", "set", "web1", "--failback", "5-5"),
        ("role", "set", "web1", "--failback", "sometimes"),
        ("node", "set", "node2", "--site", "east", "--no-site"),
        ("node", "resume", "node2", "--failback", "later"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_read_is_not_asked(
    arguments: tuple[str, ...], daemon: Daemon, holdfast: Holdfast
) -> None:
    assert holdfast(*arguments).code == 2
    assert daemon.asked == []


def test_a_drain_names_what_goes_where_and_what_stays_and_why(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("node.drain", DRAIN)
    assert holdfast("node", "drain", "node2").out == "web1 moves to node1\ndb1 stays on node2: node1 is paused\n"
    daemon.on("node.drain", replace(DRAIN, is_dry_run=True))
    dry = holdfast("node", "drain", "node2", "--dry-run")
    assert dry.out == "web1 would move to node1\ndb1 would stay on node2: node1 is paused\n"
    daemon.on("node.drain", replace(DRAIN, moves={}, staying={}))
    assert holdfast("node", "drain", "node2", "--wait").out == "node2 has no role left\n"
    daemon.on("node.drain", replace(DRAIN, is_dry_run=True, refused="1 of 2 roles would find no room"))
    last = holdfast("node", "drain", "node2", "--dry-run").out.splitlines()[-1]
    assert last == "it would be refused without --force: 1 of 2 roles would find no room"


def test_balancing_says_what_moves_and_how_full_the_nodes_are_then(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("cluster.balance", BALANCE)
    dry = holdfast("balance", "--dry-run")
    assert dry.out.splitlines() == [
        "web1 would move from node1 to node2 (2.0 GiB)",
        "node1: 75 % full, then 50 %",
        "node2: 12 % full, then 38 %",
        "1 role would move; loads would be within 20 % of a node",
    ]
    daemon.on("cluster.balance", replace(BALANCE, is_dry_run=False, moves=(), is_within=True))
    assert holdfast("balance").out.endswith("nothing has to move: their loads are within 20 % of a node\n")
    daemon.on("cluster.balance", replace(BALANCE, is_dry_run=False, is_within=False))
    ended = holdfast("balance")
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "their loads are more than 20 % of a node apart")


HALF = Transfer(
    bytes_total=4 << 30,
    bytes_processed=3 << 30,
    bytes_remaining=2 << 30,
    bytes_per_s=100 << 20,
    dirty_bytes_per_s=1 << 20,
    time_left_ms=21_000,
)


def test_a_person_is_told_how_far_the_memory_of_a_role_is(daemon: Daemon, holdfast: Holdfast) -> None:
    steps = tuple(Progress(text="web1 is migrating on node1", transfer=HALF) for _ in range(3))
    daemon.on("role.move", role("web1", owner="node2"), items=steps)
    ended = holdfast("role", "move", "web1")
    told = "50 % of 4.0 GiB, 100 MiB/s, the guest changes 1 MiB/s, 21 s left"
    assert ended.err == f"web1 is migrating on node1: {told}\n"


def test_a_program_is_told_every_step_and_the_answer_as_lines(daemon: Daemon, holdfast: Holdfast) -> None:
    steps = tuple(Progress(text="web1 is migrating on node1", transfer=HALF) for _ in range(2))
    daemon.on("role.move", role("web1", owner="node2"), items=steps)
    ended = holdfast("role", "move", "web1", "--json-lines")
    *told, answer = [json.loads(line) for line in ended.out.splitlines()]
    assert [step["transfer"]["bytes_remaining"] for step in told] == [2 << 30] * 2
    assert (answer["owner"], ended.err) == ("node2", "")


@pytest.mark.parametrize(("typed", "is_done"), [("web2", False), ("", False), ("web1", True)])
def test_saved_memory_is_given_up_only_when_its_name_is_typed(
    typed: str, is_done: bool, daemon: Daemon, holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{typed}\n"))
    daemon.on("role.discard-saved-state", role("web1"))
    assert (holdfast("role", "discard-saved-state", "web1").code == 0) is is_done
    assert bool(daemon.asked) is is_done


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"state": RoleState.MIGRATING, "transfer": HALF}, "migrating 50 %"),
        ({"state": RoleState.SAVING, "transfer": HALF}, "saving 50 %"),
        ({"state": RoleState.OFFLINE, "owner": None, "has_saved_memory": True}, "saved"),
        ({"state": RoleState.BLOCKED, "has_saved_memory": True}, "blocked"),
    ],
)
def test_how_far_it_is_shows_in_the_tables(
    changes: dict[str, Any], shown: str, daemon: Daemon, holdfast: Holdfast
) -> None:
    daemon.on("status", replace(WELL, roles=(role("web1", **changes),)))
    assert shown in holdfast("vm", "list").out


def test_the_history_of_a_role_is_a_line_per_move(daemon: Daemon, holdfast: Holdfast) -> None:
    arrived = PastMove(
        role="web1",
        at_ms=NOON_MS,
        outcome=MoveOutcome.ARRIVED,
        method="live",
        source="node1",
        target="node2",
        owner="node2",
        total_ms=3030,
        pause_ms=30,
        why=("it was asked to move to node2",),
        trouble=(),
    )
    failed = replace(arrived, outcome=MoveOutcome.RETURNED, owner="node1", pause_ms=None, trouble=("no route",))
    daemon.on("role.history", (arrived, failed))
    shown = holdfast("role", "history", "web1", "--limit", "2").out.splitlines()
    assert daemon.asked == [("role.history", {"role": "web1", "limit": 2})]
    assert [line.rstrip() for line in shown] == [
        "2026-03-01 12:00  node1 → node2  live  arrived  3.03 s in all, 0.03 s paused",
        "    it was asked to move to node2",
        "2026-03-01 12:00  node1 → node2  live  stayed on node1  3.03 s in all",
        "    it was asked to move to node2",
        "    trouble: no route",
    ]
    daemon.on("role.history", ())
    assert holdfast("role", "history", "web1").out == "no move of web1 is in the events that are kept\n"


def test_a_move_that_does_not_arrive_is_not_reached(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("role.move", role("web1", state=RoleState.STOPPING, target="node2"))
    ended = holdfast("role", "move", "web1", "--to", "node2")
    assert ended.code == 1
    assert "its move goes on" in ended.err
    daemon.on("role.move", role("web1", owner="node2"))
    assert holdfast("role", "move", "web1", "--to", "node2").code == 0
