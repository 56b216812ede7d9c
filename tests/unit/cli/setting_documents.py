"""Hand-made documents of settings: shortened times that one node does not use yet."""

from holdfast.decide.timing_sums import arithmetic
from holdfast.model.ids import NodeName
from holdfast.model.setting_pages import SettingLine, SettingsChange, SettingsPage
from holdfast.model.settings import Timings

WATCHDOGS = {NodeName("node1"): 10_000, NodeName("node2"): None}
SHORT = Timings(guard_deadline_ms=2000, patience_ms=2500)

SETTINGS = SettingsPage(
    cluster="demo",
    settings=(
        SettingLine(name="shared_directories", value=("/srv/vms",), default=(), is_default=False),
        SettingLine(name="timings.guard_deadline_ms", value=2000, default=4000, is_default=False),
        SettingLine(name="timings.patience_ms", value=2500, default=5000, is_default=False),
        SettingLine(name="vcpu_overcommit", value=4, default=4, is_default=True),
    ),
    arithmetic=arithmetic(SHORT, WATCHDOGS),
    is_changing=True,
    waits_for={"node2": "it has not said that it knows the new ones"},
)
CHANGE = SettingsChange(
    is_dry_run=True,
    before={"timings.guard_deadline_ms": 4000, "timings.patience_ms": 5000},
    after={"timings.guard_deadline_ms": 2000, "timings.patience_ms": 2500},
    sums_before=arithmetic(Timings(), WATCHDOGS),
    sums_after=arithmetic(SHORT, WATCHDOGS),
)
