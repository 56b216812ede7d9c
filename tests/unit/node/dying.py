"""A program that is killed at a chosen step: before or after one of the things that it does to the world.

Rule of the file: `Killed` is no error that any code under test could catch; what was done before it stays done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Killed(BaseException):
    """The program ended here."""


class Killer:
    """Kills once, at the step of this number; an even number is before the act number/2, an odd one just after it."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.has_killed = False

    def step(self) -> None:
        """Here it could end."""
        self._left -= 1
        if self._left == -1:
            self.has_killed = True
            raise Killed

    def around(self, thing: T, *acts: str) -> T:
        """The same thing; its acts (by default the transactions of a store) are steps."""
        return cast("T", _Watched(thing, acts or ("txn",), self))


class _Watched:
    """Passes everything on."""

    def __init__(self, thing: object, acts: tuple[str, ...], killer: Killer) -> None:
        self._thing = thing
        self._acts = acts
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name not in self._acts:
            return found

        async def act(*args: object, **named: object) -> object:
            self._killer.step()
            outcome = await cast("Callable[..., Awaitable[object]]", found)(*args, **named)
            self._killer.step()
            return outcome

        return act
