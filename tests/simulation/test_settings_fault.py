"""The fault that changes settings changes some, safely, and changes them back."""

from __future__ import annotations

from holdfast.model.settings import Settings, Timings
from holdfast.node.settings_words import changed_settings
from holdfast.sim.person_faults import SLOWER, USUAL


def test_what_the_fault_changes_are_settings_and_it_changes_them_back() -> None:
    slower = changed_settings(Settings(), SLOWER)
    assert slower.timings != Timings()
    assert changed_settings(slower, USUAL) == Settings()
