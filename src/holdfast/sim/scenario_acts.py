"""What breaks and what is mended: how each kind of event that nobody asks for acts on the world.

Rule of the file: one row per kind; a function acts at once and touches only what the event names.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from holdfast.fencing.simulated import DeviceFault
from holdfast.model.ids import NetworkName, NodeName
from holdfast.sim.machine import RESTART_S, Machine
from holdfast.sim.scenario_events import CablePart, CutPart, EventPart, JumpPart, StartFailsPart, Strike, WeatherPart
from holdfast.sim.scenario_values import meant
from holdfast.sim.scenario_world import Refusals
from holdfast.sim.target_faults import strike_once
from holdfast.sim.voter_faults import join_again
from holdfast.sim.world import Sky, World

STOP_S: Final = 1.5
"""An orderly stop of holdfastd takes up to a second for what it announces."""


class Stage:
    """The world, and what of it a scenario can touch."""

    def __init__(self, world: World, refusals: Refusals, uuids: dict[str, str]) -> None:
        self.world = world
        self.refusals = refusals
        self.uuids = uuids

    def act(self, event: EventPart) -> None:
        """Let it happen now."""
        ACTS[event.kind](self, event.what)

    def machines(self, names: tuple[str, ...]) -> list[Machine]:
        """The machines that are meant."""
        return [self.world.machines[NodeName(name)] for name in meant(names, self.world.machines)]

    def networks(self, names: tuple[str, ...]) -> list[NetworkName]:
        """The networks that are meant; none named: all."""
        known = self.world.make.networks
        return [NetworkName(name) for name in (meant(names, known) if names else known)]

    def unplug(self, what: CablePart) -> None:
        """Pull cables."""
        for machine in self.machines(what.node):
            for network in self.networks(what.network):
                machine.cables_out.add(network)
                self.world.air.unplug(network, machine.spec.addresses[network])
        self.world.settle()

    def plug(self, what: CablePart) -> None:
        """Put cables back."""
        for machine in self.machines(what.node):
            for network in self.networks(what.network):
                machine.cables_out.discard(network)
                if machine.is_on:
                    self.world.air.plug(network, machine.spec.addresses[network])
        self.world.settle()

    def cut(self, what: CutPart) -> None:
        """Lose what goes between two groups."""
        self._ways(what, self.world.air.cut)

    def heal(self, what: CutPart) -> None:
        """Let it pass again."""
        self._ways(what, self.world.air.heal)

    def _ways(self, what: CutPart, act: Callable[[NetworkName, str, str], None]) -> None:
        for network in self.networks(what.network):
            for one in self.machines(what.from_):
                for other in self.machines(what.to):
                    here, there = one.spec.addresses[network], other.spec.addresses[network]
                    if one is not other:
                        act(network, here, there)
                    if one is not other and not what.one_way:
                        act(network, there, here)
        self.world.settle()

    def reach_database(self, names: tuple[str, ...], *, is_cut: bool) -> None:
        """Cut the way to the database, or mend it."""
        chosen = {machine.name for machine in self.machines(names)}
        self.world.cut_off = self.world.cut_off | chosen if is_cut else self.world.cut_off - chosen
        self.world.settle()

    def hold_members_down(self, names: tuple[str, ...], *, is_held_down: bool) -> None:
        """Let members of the database end and stay so, or start again."""
        for machine in self.machines(names):
            if machine.member is not None:
                machine.member.is_held_down = is_held_down
                if is_held_down:
                    machine.member.end()

    def join(self, names: tuple[str, ...]) -> None:
        """Let machines that are out of the cluster join it."""
        for machine in self.machines(names):
            join_again(self.world, machine)

    def set_weather(self, what: WeatherPart) -> None:
        """Let packets fare so."""
        delay_ms = max(1, round(what.delay * 1000))
        self.world.sky = Sky(loss=what.loss, twice=what.duplicates, delay_ms=delay_ms)

    def change_leader(self, _: object) -> None:
        """Have the database elect anew."""
        self.world.depose()
        self.world.settle()

    def jump(self, what: JumpPart) -> None:
        """Let wall clocks jump."""
        for machine in self.machines(what.node):
            machine.clock.offset_ms += round(what.by * 1000)

    def cut_storage(self, names: tuple[str, ...], *, is_cut: bool) -> None:
        """Cut nodes off every disk, or mend that."""
        for machine in self.machines(names):
            (self.world.storage.cut_off if is_cut else self.world.storage.reconnect)(machine.name)
            for path in self.world.shared_disks.paths(machine.name):
                path.is_cut = is_cut
        self.world.shared_disks.flush()

    def forget(self, _: object) -> None:
        """Have the target restart with nothing that it knew."""
        self.world.shared_disks.switch_off(forgets=True)
        self.world.shared_disks.switch_on()

    def hang_target(self, *, is_hung: bool) -> None:
        """Let the target answer nobody, or everybody."""
        self.world.shared_disks.target.is_hung = is_hung

    def strike_who_preempts(self, how: Strike) -> None:
        """Kill or freeze the next one."""
        strike_once(self.world, lambda exchange: exchange.is_preempt, freezes=how is Strike.FREEZE)

    def crash_guests(self, names: tuple[str, ...]) -> None:
        """Crash the guests of roles."""
        uuids = [self.uuids[name] for name in meant(names, self.uuids)]
        for run in self.world.truth.living():
            machine = self.world.machines[NodeName(run.node)]
            if run.uuid in uuids and machine.executes:
                machine.hypervisor.crash_guest(run.uuid)

    def fail_starts(self, what: StartFailsPart) -> None:
        """Let starts fail."""
        self.refusals.add(what)

    def restart_daemon(self, machine: Machine) -> None:
        """Stop holdfastd in an orderly way, and start it."""
        machine.stop_daemon()

        def start() -> None:
            machine.kill_daemon()
            machine.start_daemon()

        self.world.loop.call_later(STOP_S + RESTART_S, start, context=Context())


def _lose_data(machine: Machine) -> None:
    if machine.member is not None:
        machine.member.lose_data()


Act = Callable[[Stage, Any], None]


def _each(act: Callable[[Machine], None]) -> Act:
    def on_all(stage: Stage, names: tuple[str, ...]) -> None:
        for machine in stage.machines(names):
            act(machine)

    return on_all


def _libvirt(*, is_hung: bool) -> Act:
    def switch(machine: Machine) -> None:
        machine.is_libvirt_hung = is_hung
        machine.settle()

    return _each(switch)


def _guard(*, is_wanted: bool) -> Act:
    def switch(machine: Machine) -> None:
        machine.is_guard_wanted = is_wanted
        machine.settle()

    return _each(switch)


def _fence(fault: DeviceFault) -> Act:
    def switch(machine: Machine) -> None:
        machine.device.fault = fault

    return _each(switch)


def _restart_daemons(stage: Stage, names: tuple[str, ...]) -> None:
    for machine in stage.machines(names):
        stage.restart_daemon(machine)


ACTS: Final[dict[str, Act]] = {
    "power_off": _each(lambda machine: machine.power_off("plug pulled")),
    "power_on": _each(Machine.power_on),
    "network_off": Stage.unplug,
    "network_on": Stage.plug,
    "cut": Stage.cut,
    "heal": Stage.heal,
    "freeze": _each(Machine.freeze),
    "thaw": _each(Machine.thaw),
    "shutdown": _each(Machine.shut_down),
    "reboot": _each(Machine.reboot),
    "daemon_stop": _each(Machine.stop_daemon),
    "daemon_start": _each(Machine.start_daemon),
    "daemon_restart": _restart_daemons,
    "daemon_kill": _each(Machine.kill_daemon),
    "guard_kill": _guard(is_wanted=False),
    "guard_start": _guard(is_wanted=True),
    "libvirt_hangs": _libvirt(is_hung=True),
    "libvirt_works": _libvirt(is_hung=False),
    "store_down": lambda stage, names: stage.reach_database(names, is_cut=True),
    "store_up": lambda stage, names: stage.reach_database(names, is_cut=False),
    "store_leader_change": Stage.change_leader,
    "member_stop": lambda stage, names: stage.hold_members_down(names, is_held_down=True),
    "member_start": lambda stage, names: stage.hold_members_down(names, is_held_down=False),
    "member_loses_data": _each(_lose_data),
    "join": Stage.join,
    "storage_off": lambda stage, names: stage.cut_storage(names, is_cut=True),
    "storage_on": lambda stage, names: stage.cut_storage(names, is_cut=False),
    "target_down": lambda stage, _: stage.world.shared_disks.switch_off(forgets=False),
    "target_up": lambda stage, _: stage.world.shared_disks.switch_on(),
    "target_forgets": Stage.forget,
    "target_hangs": lambda stage, _: stage.hang_target(is_hung=True),
    "target_answers": lambda stage, _: stage.hang_target(is_hung=False),
    "preempt_race": Stage.strike_who_preempts,
    "weather": Stage.set_weather,
    "clock_jump": Stage.jump,
    "guest_crash": Stage.crash_guests,
    "start_fails": Stage.fail_starts,
    "fence_fails": _fence(DeviceFault.FAIL),
    "fence_hangs": _fence(DeviceFault.HANG),
    "fence_unclear": _fence(DeviceFault.UNKNOWN),
    "fence_works": _fence(DeviceFault.NONE),
}
"""What each kind of event does."""
