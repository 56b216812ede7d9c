"""A shared disk as a simulated machine's holdfastd reaches it: who may write is read twice a second by every node.

Rule of the file: while all is quiet such a reading is answered from the state of the disk, without a command. Whatever
else is asked, and every reading while anything goes on at the target, goes there as commands.
"""

from __future__ import annotations

from holdfast.sim.nexus import Multipath
from holdfast.sim.target_weather import TargetWeather
from holdfast.storage.outcome import Done, Outcome
from holdfast.storage.scsi.reservations import Keys, ReservationReading
from holdfast.storage.scsi_lun import ScsiLun
from holdfast.storage.simulated_reservations import SimulatedReservations


class QuietLun(ScsiLun):
    """See the module. Two readings of one state are one object."""

    def __init__(self, way: Multipath, weather: TargetWeather) -> None:
        super().__init__(way)
        self._way = way
        self._weather = weather
        self._keys = Done(value=Keys(generation=0, keys=()))
        self._reading = Done(value=ReservationReading(generation=0, reservation=None))
        self._read: object = None
        """The state that the reservation was last read in."""

    async def read_keys(self) -> Outcome[Keys]:
        """See `Lun`."""
        held = self._held()
        if held is None:
            return await super().read_keys()
        keys, last = tuple(held.registered.values()), self._keys.value
        if last.generation != held.generation or last.keys != keys:
            self._keys = Done(value=Keys(generation=held.generation, keys=keys))
        return self._keys

    async def read_reservation(self) -> Outcome[ReservationReading]:
        """See `Lun`."""
        held = self._held()
        if held is None:
            return await super().read_reservation()
        state = held.generation, held.type, held.holder, held.registered.get(held.holder or "")
        if state != self._read:
            self._read = state
            self._reading = Done(value=ReservationReading(generation=held.generation, reservation=held.reservation))
        return self._reading

    def _held(self) -> SimulatedReservations | None:
        """What the disk keeps of who may write, if this machine reads it at once and has nothing else to be told."""
        disk = self._way.idle_disk
        return disk.reservations if disk is not None and self._weather.is_quiet(disk.name) else None
