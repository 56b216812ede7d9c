"""What a deliberate breakage is made of.

Rule of the file: a breakage is a wrapped port, or a function replaced for the time of one run. Neither the code under
test nor a checker is changed. Which there are is told in `breakages`. Source: DESIGN section 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from holdfast.fencing.guard.logic import Victim
from holdfast.fencing.port import FenceDevice
from holdfast.hypervisor.simulated_guest import Neighbourhood
from holdfast.sim.layout import Make
from holdfast.sim.truth import Truth
from holdfast.sim.twins import MachineHypervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """One breakage, or none.

    replaced        per "module:name" (a name may be "Class.method") what makes its replacement from it.
    is_person_sure  people confirm a machine down without looking whether it is.
    make            the cluster in which it shows, from the one that the seed drew.
    """

    hypervisor: Callable[[str, Truth, Neighbourhood], MachineHypervisor] = MachineHypervisor
    device: Callable[[FenceDevice], FenceDevice] = lambda device: device
    kill: Callable[[Callable[[Victim], None]], Callable[[Victim], None]] = lambda kill: kill
    reset: Callable[[Callable[[], None]], Callable[[], None]] = lambda reset: reset
    replaced: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    is_person_sure: bool = False
    make: Callable[[Make], Make] = lambda make: make

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the functions, and put them back."""
        undo: list[tuple[Any, str, Any]] = []
        try:
            for place, make in self.replaced:
                module, _, path = place.partition(":")
                owner: Any = import_module(module)
                *outer, name = path.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                original = getattr(owner, name)
                undo.append((owner, name, original))
                setattr(owner, name, make(original))
            yield
        finally:
            for owner, name, original in undo:
                setattr(owner, name, original)


UNBROKEN: Final = Breakage()
