"""What people see of hand-made clusters, kept as pages under `golden/`."""

import io

import pytest
from tests.unit.cli.conftest import Holdfast, check_golden
from tests.unit.cli.daemon import Daemon
from tests.unit.cli.documents import (
    EVENTS,
    EXPLANATIONS,
    JOINING,
    LOST,
    NO_QUORUM,
    QUORUM,
    STATUSES,
    WARNED,
    WELL,
    cluster,
    role,
)
from tests.unit.cli.setting_documents import CHANGE, SETTINGS

from holdfast.cli.appearance import NODE_LOOKS, ROLE_LOOKS
from holdfast.cli.changes import changes
from holdfast.cli.output import console
from holdfast.cli.status_page import status_page
from holdfast.cli.verdict import troubles, verdict
from holdfast.model.status import NodeState, RoleState


@pytest.mark.parametrize("name", STATUSES)
def test_status(name: str, daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("status", STATUSES[name])
    ended = holdfast("status")
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    check_golden(f"status-{name}", ended.out)


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_explain(name: str, daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("explain", EXPLANATIONS[name])
    ended = holdfast("explain", "role", EXPLANATIONS[name].name)
    assert (ended.code, ended.err) == (0, "")
    assert daemon.asked == [("explain", {"role": EXPLANATIONS[name].name})]
    check_golden(f"explain-{name}", ended.out)


def test_events(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("events", EVENTS)
    ended = holdfast("events", "--limit", "3")
    assert daemon.asked == [("events", {"limit": 3})]
    check_golden("events", ended.out)


def test_lists_and_sheets(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("status", LOST)
    check_golden("node-list", holdfast("node", "list").out)
    check_golden("node-show", holdfast("node", "show", "node3").out)
    check_golden("vm-list", holdfast("vm", "list").out)
    check_golden("vm-show", holdfast("vm", "show", "web1").out)


def test_quorum_names_what_takes_the_majority(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("quorum.show", QUORUM)
    check_golden("quorum-show", holdfast("quorum", "show").out)


def test_verdicts() -> None:
    assert verdict(WELL) == "all well"
    assert verdict(JOINING) == "all well, 1 node joining"
    assert verdict(NO_QUORUM) == "NO QUORUM: decisions are frozen (as of revision 812)"
    assert verdict(LOST) == "1 node lost, 1 role blocked, 1 role starting"
    assert verdict(cluster(conditions=WARNED.conditions)) == "2 conditions"
    assert not troubles(JOINING)


def test_every_trouble_of_a_lost_node_names_a_next_step() -> None:
    assert [trouble.next_step for trouble in troubles(LOST)] == [
        "holdfast explain role web1",
        "if its power is surely off: holdfast node confirm-down node3",
    ]


def test_every_state_has_a_look_of_its_own_among_grave_ones() -> None:
    assert set(NODE_LOOKS) == set(NodeState)
    assert set(ROLE_LOOKS) == set(RoleState)
    assert len({NODE_LOOKS[state].ascii for state in NodeState} - {""}) == len(NodeState)


@pytest.mark.parametrize(("encoding", "symbol"), [("utf-8", "✖ lost"), ("ascii", "X lost")])
def test_symbols_are_those_that_the_terminal_can_show(encoding: str, symbol: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console(file=file, width=80).print(status_page(LOST))
    file.seek(0)
    assert symbol in file.read()


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered() -> str:
        file = io.StringIO()
        console(file=file, width=80, force_terminal=True, color_system="standard").print(status_page(LOST))
        return file.getvalue()

    assert "\x1b[1;31m" in rendered()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in rendered()


def test_changes_are_only_what_is_new() -> None:
    assert changes(None, WELL)[0] == "cluster demo: all well"
    assert changes(WELL, WELL) == []
    assert changes(WARNED, WARNED) == []
    assert changes(WELL, LOST) == [
        "cluster demo: 1 node lost, 1 role blocked, 1 role starting",
        "node3 is lost, because node3 has been silent on every network for 5210 ms (limit 800 ms)",
        f"web1 is blocked, owned by node3, because {'; '.join(LOST.roles[1].reasons)}",
        "web2 is starting on node2, because node1 has the most free memory of 3 candidates",
        "old is offline, because node1 has the most free memory of 3 candidates",
    ]
    moved = cluster(roles=(WELL.roles[0], role("web1", owner="node2", reasons=())))
    assert changes(WELL, moved) == ["web1 is online on node2"]
    assert changes(WELL, cluster(roles=WELL.roles[:1])) == ["web1 is removed"]
    assert [line.split(":")[0] for line in changes(WARNED, cluster(nodes=WARNED.nodes))] == [
        "cluster demo",
        "condition cleared",
        "condition cleared",
    ]


def test_settings(daemon: Daemon, holdfast: Holdfast) -> None:
    daemon.on("cluster.show", SETTINGS)
    check_golden("cluster-show", holdfast("cluster", "show").out)
    daemon.on("cluster.set", CHANGE)
    changes = ("timings.guard_deadline_ms", "2000", "timings.patience_ms", "2500")
    check_golden("cluster-set", holdfast("cluster", "set", *changes, "--dry-run").out)
