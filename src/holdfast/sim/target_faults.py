"""What goes wrong with shared disks: their target, the ways to it, and nodes that die while they preempt.

Rule of the file: see `fault_targets`; one function per kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final

from holdfast.model.ids import NodeName
from holdfast.sim.fault import Fault, FaultKind
from holdfast.sim.fault_targets import Begin, End, machine_of
from holdfast.sim.nexus import Nexus, is_registration
from holdfast.sim.world import World
from holdfast.storage.simulated import Exchange

LONGEST_MS: Final = 1200.0
"""A command takes no longer than this in a slow target: less than a machine takes to start anew."""
RACE_S: Final = 0.0004
"""Twice as long as a command takes there and back when everything is well."""
RESETS_EVERY_S: Final = 0.5


def cut_paths(world: World, paths: Sequence[Nexus]) -> End:
    """Let nothing pass on these paths; what waits in the machines goes first when they are whole again."""
    for path in paths:
        world.overlaps.begin(path)
        path.is_cut = True

    def mend() -> None:
        for path in paths:
            if world.overlaps.end(path):
                path.is_cut = False
        world.shared_disks.flush()

    return mend


def _restart(world: World, fault: Fault) -> End:
    """The target is down for a while. It forgets what it does not keep over a loss of power."""
    return _switched_off(world, forgets=False)


def _forgets(world: World, fault: Fault) -> End:
    """The target is down for a while, and has forgotten every registration, whatever it promised."""
    return _switched_off(world, forgets=True)


def _switched_off(world: World, *, forgets: bool) -> End:
    world.overlaps.begin("target")
    world.shared_disks.switch_off(forgets=forgets)

    def back() -> None:
        if world.overlaps.end("target"):
            world.shared_disks.switch_on()

    return back


def _hangs(world: World, fault: Fault) -> End:
    """The target answers nobody, and what is sent meanwhile is lost."""
    target = world.shared_disks.target
    world.overlaps.begin("hang")
    target.is_hung = True

    def heal() -> None:
        if world.overlaps.end("hang"):
            target.is_hung = False

    return heal


def _slow(world: World, fault: Fault) -> End:
    """Requests, their execution and answers take their time: one of the three, or all."""
    weather, longest_ms = world.shared_disks.weather, fault.amount * LONGEST_MS
    weather.request_ms = longest_ms if fault.other & 1 else 0.0
    weather.execution_ms = longest_ms if fault.other & 2 else 0.0
    weather.reply_ms = longest_ms if fault.other & 4 or not fault.other & 3 else 0.0

    def heal() -> None:
        weather.request_ms = weather.execution_ms = weather.reply_ms = 0.0

    return heal


def _replies_lost(world: World, fault: Fault) -> End:
    weather = world.shared_disks.weather
    weather.lost_replies = 0.1 + fault.amount * 0.4

    def heal() -> None:
        weather.lost_replies = 0.0

    return heal


def _writes_torn(world: World, fault: Fault) -> End:
    """Of some writes only the first block lands, late, and nobody is told."""
    weather = world.shared_disks.weather
    weather.torn, weather.execution_ms = 0.1 + fault.amount * 0.5, fault.other / 255 * LONGEST_MS

    def heal() -> None:
        weather.torn = weather.execution_ms = 0.0

    return heal


def _writes_held(world: World, fault: Fault) -> End:
    """The target keeps some writes for long before it carries them out: what PREEMPT AND ABORT is for."""
    weather = world.shared_disks.weather
    weather.held = 0.2 + fault.amount * 0.8

    def heal() -> None:
        weather.held = 0.0

    return heal


def _resets(world: World, fault: Fault) -> End:
    """Somebody resets the logical units, once or again and again: commands are dropped, everybody gets attentions."""
    is_over = False

    def reset() -> None:
        if not is_over:
            for disk in world.shared_disks.target.disks.values():
                disk.reset("somebody")
            if fault.amount < 0.5:
                world.loop.call_later(RESETS_EVERY_S, reset, context=Context())

    def stop() -> None:
        nonlocal is_over
        is_over = True

    reset()
    return stop


def _session_lost(world: World, fault: Fault) -> End:
    """A machine loses its sessions, and logs in again at the end."""
    paths = world.shared_disks.paths(machine_of(world, fault.target).name)
    back = cut_paths(world, paths)
    for path in paths:
        path.log_out()
    return back


def _path_out(world: World, fault: Fault) -> End:
    """A machine loses one of its paths to every disk: all there is when it has but one."""
    paths = world.shared_disks.paths(machine_of(world, fault.target).name)
    every = world.make.paths
    return cut_paths(world, paths[fault.other % every :: every])


def strike_once(world: World, is_meant: Callable[[Exchange], bool], *, freezes: bool, after_s: float = 0.0) -> End:
    """Kill the holdfastd of the next one that sends such a command, or freeze its machine, so shortly after."""
    watchers = world.shared_disks.weather.watchers
    ends: list[End] = []

    def strike(name: str) -> None:
        machine = world.machines[NodeName(name)]
        world.truth.note("world", f"{name} is struck", subject=name)
        if freezes:
            machine.freeze()
            ends.append(machine.thaw)
        else:
            machine.kill_daemon()
            ends.append(machine.start_daemon)

    def watch(exchange: Exchange) -> None:
        if is_meant(exchange):
            watchers.remove(watch)
            node = world.shared_disks.node_of(exchange.initiator)
            world.loop.call_later(after_s, strike, node, context=Context())

    watchers.append(watch)

    def stop() -> None:
        if watch in watchers:
            watchers.remove(watch)
        for end in ends:
            end()

    return stop


def _race(is_meant: Callable[[Exchange], bool]) -> Begin:
    """Who sends such a command is struck before it arrives, before the answer, or then."""

    def begin(world: World, fault: Fault) -> End:
        return strike_once(world, is_meant, freezes=not fault.other & 1, after_s=fault.amount * RACE_S)

    return begin


TARGET_FAULTS: Final[dict[FaultKind, Begin]] = {
    FaultKind.TARGET_RESTART: _restart,
    FaultKind.TARGET_FORGETS: _forgets,
    FaultKind.TARGET_HANGS: _hangs,
    FaultKind.TARGET_SLOW: _slow,
    FaultKind.TARGET_REPLIES_LOST: _replies_lost,
    FaultKind.TARGET_WRITES_TORN: _writes_torn,
    FaultKind.TARGET_WRITES_HELD: _writes_held,
    FaultKind.TARGET_RESET: _resets,
    FaultKind.TARGET_SESSION_LOST: _session_lost,
    FaultKind.TARGET_PATH_OUT: _path_out,
    FaultKind.PREEMPT_RACE: _race(lambda exchange: exchange.is_preempt),
    FaultKind.REGISTER_RACE: _race(lambda exchange: is_registration(exchange.command)),
}
