"""What each kind of fault does: one row per kind, with a function that begins it and returns what ends it.

Rule of the file: every fault ends after its time, or at the healing if that comes first.
"""

from __future__ import annotations

from typing import Final

from holdfast.sim.database_faults import DATABASE_FAULTS
from holdfast.sim.fault import FaultKind
from holdfast.sim.fault_targets import Begin
from holdfast.sim.memory_faults import MEMORY_FAULTS
from holdfast.sim.network_faults import NETWORK_FAULTS
from holdfast.sim.node_faults import NODE_FAULTS
from holdfast.sim.person_faults import PERSON_FAULTS
from holdfast.sim.target_faults import TARGET_FAULTS
from holdfast.sim.voter_faults import VOTER_FAULTS

FAULTS: Final[dict[FaultKind, Begin]] = {
    **NODE_FAULTS,
    **NETWORK_FAULTS,
    **DATABASE_FAULTS,
    **PERSON_FAULTS,
    **TARGET_FAULTS,
    **MEMORY_FAULTS,
    **VOTER_FAULTS,
}
