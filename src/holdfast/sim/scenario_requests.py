"""What a person asks for in a scenario: the same requests that the commands send to holdfastd.

Rule of the file: a request is served inside of the daemon of one node, by the code that serves it in a real cluster; if
that daemon dies, there is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from holdfast.model.errors import HoldfastError, Refused
from holdfast.model.ids import RoleName
from holdfast.node.requests import Requests
from holdfast.sim.layout import domain_xml
from holdfast.sim.machine import Machine
from holdfast.sim.scenario_cluster import RolePart
from holdfast.sim.scenario_events import EventPart, ResumePart
from holdfast.sim.scenario_values import meant
from holdfast.sim.scenario_world import choices_of
from holdfast.sim.world import World

PERSON: Final = "the scenario"
Request = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class Answer:
    """What became of what a person asked for. `text` None: there is no answer yet."""

    event: EventPart
    asked: str = ""
    is_done: bool = False
    text: str | None = None

    def verdict(self) -> tuple[bool, str]:
        """Whether it went as the scenario says, and what was answered."""
        seen = "no answer" if self.text is None else "done" if self.is_done else f"refused: {self.text}"
        wanted = self.event.refused
        if wanted is None:
            return self.is_done, seen
        return self.text is not None and not self.is_done and wanted.lower() in self.text.lower(), seen


class _NoTokens:
    async def create_token(self, ttl_ms: int) -> tuple[str, int]:
        raise Refused("no machine joins a simulated cluster")


class Person:
    """Somebody who types commands on a node."""

    def __init__(self, world: World, uuids: dict[str, str]) -> None:
        self.answers: list[Answer] = []
        self._world = world
        self._uuids = uuids

    def ask(self, event: EventPart) -> None:
        """Send what the event stands for to a node; the answer comes later, if at all."""
        answer = Answer(event)
        self.answers.append(answer)
        machine = self._whom(event.by)
        if machine is None:
            answer.text = f"holdfastd does not run on {event.by or 'any node'}"
            return
        answer.asked = machine.name
        assert machine.daemon is not None
        serving = machine.daemon.spawn(self._serve(machine, answer, tuple(self._requests(event))))
        serving.add_done_callback(lambda done: self._end(event, done), context=Context())

    def _end(self, event: EventPart, done: asyncio.Task[None]) -> None:
        """A request that ends by an error of its own is a bug."""
        if not done.cancelled() and (error := done.exception()) is not None:
            self._world.truth.accident(f"{event} ended by itself: {error!r}")

    async def _serve(self, machine: Machine, answer: Answer, requests: tuple[Request, ...]) -> None:
        assert machine.life is not None
        serving = Requests(machine.life, machine.store, _NoTokens())
        try:
            for method, params in requests:
                async with aclosing(serving.handle(method, to_jsonable_python(params))) as items:
                    async for _ in items:
                        pass
        except HoldfastError as error:
            answer.text = error.message
        except ValidationError as error:
            answer.text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        else:
            answer.is_done, answer.text = True, ""
        outcome = "done" if answer.is_done else f"refused: {answer.text}"
        self._world.truth.note("person", f"{answer.event}: {outcome}", code="answered", subject=machine.name)

    def _whom(self, name: str | None) -> Machine | None:
        """The node that is asked: as named, else the first that knows the cluster and reaches its database."""
        running = [
            machine
            for machine in self._world.machines.values()
            if machine.life is not None and machine.executes and name in (None, machine.name)
        ]
        return min(running, key=_unfit, default=None)

    def _requests(self, event: EventPart) -> Iterator[Request]:
        make = REQUESTS[event.kind]
        for what in self._each(event):
            yield make(self, what)

    def _each(self, event: EventPart) -> Iterator[Any]:
        """One by one, where an event names several."""
        what = event.what
        match what:
            case tuple():
                yield from meant(what, self._uuids if event.kind.startswith("role_") else self._world.machines)
            case ResumePart():
                for name in meant(what.node, self._world.machines):
                    yield name, what.failback
            case _:
                yield what

    def add(self, role: RolePart) -> Request:
        """The request that adds a role."""
        xml = domain_xml(RoleName(role.name), self._uuids[role.name], memory_bytes=role.memory, vcpus=role.vcpus)
        return "vm.add", {"domain_xml": xml, "wanted": role.wanted, "shutdown_timeout_ms": 5_000, **choices_of(role)}


def _unfit(machine: Machine) -> tuple[bool, bool]:
    assert machine.life is not None
    return machine.store.faults.is_cut, machine.life.mirror.snapshot is None


REQUESTS: Final[dict[str, Callable[[Person, Any], Request]]] = {
    "drain": lambda _, node: ("node.drain", {"node": node, "force": True}),
    "resume": lambda _, what: ("node.resume", {"node": what[0], "failback": what[1]}),
    "pause": lambda _, node: ("node.set", {"node": node, "paused": True}),
    "evict": lambda _, node: ("node.evict", {"node": node}),
    "leave": lambda _, node: ("node.leave", {"node": node}),
    "confirm_down": lambda _, node: ("node.confirm-down", {"node": node, "person": PERSON, "reason": "it says so"}),
    "role_add": Person.add,
    "role_remove": lambda _, role: ("vm.remove", {"role": role, "force": True}),
    "role_start": lambda _, role: ("vm.start", {"role": role}),
    "role_stop": lambda _, role: ("vm.stop", {"role": role}),
    "role_move": lambda _, what: ("role.move", {"role": what.role, "to": what.to}),
    "role_set": lambda _, what: ("vm.set", {"role": what.role, **choices_of(what)}),
    "set": lambda _, changes: ("cluster.set", {"changes": changes}),
    "cluster_freeze": lambda _, reason: ("cluster.freeze", {"person": PERSON, "reason": reason}),
    "cluster_unfreeze": lambda _, __: ("cluster.unfreeze", {}),
}
"""What a person sends for each kind of event."""
