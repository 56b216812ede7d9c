"""libvirt's numbers, checked against the binding's own constants."""

import libvirt
import pytest

from holdfast.hypervisor.libvirt_words import guest_event, guest_state, version_text
from holdfast.hypervisor.port import GuestEventKind, GuestState


@pytest.mark.parametrize(
    ("state", "reason", "wanted"),
    [
        ("RUNNING", "RUNNING_BOOTED", (GuestState.RUNNING, "booted")),
        ("RUNNING", "RUNNING_POSTCOPY_FAILED", (GuestState.RUNNING, "post-copy migration failed")),
        ("PAUSED", "PAUSED_IOERROR", (GuestState.PAUSED_IO_ERROR, "I/O error")),
        ("PAUSED", "PAUSED_STARTING_UP", (GuestState.PAUSED, "starting up")),
        ("PAUSED", "PAUSED_USER", (GuestState.PAUSED, "by a person")),
        ("PAUSED", "PAUSED_POSTCOPY_FAILED", (GuestState.PAUSED, "post-copy migration failed")),
        ("SHUTDOWN", "RUNNING_UNKNOWN", (GuestState.SHUTTING_DOWN, "")),
        ("SHUTOFF", "SHUTOFF_DAEMON", (GuestState.STOPPED, "daemon")),
        ("CRASHED", "CRASHED_PANICKED", (GuestState.CRASHED, "")),
        ("PMSUSPENDED", "RUNNING_UNKNOWN", (GuestState.PAUSED, "")),
    ],
)
def test_states(state: str, reason: str, wanted: tuple[GuestState, str]) -> None:
    assert guest_state(getattr(libvirt, f"VIR_DOMAIN_{state}"), getattr(libvirt, f"VIR_DOMAIN_{reason}")) == wanted


def test_a_state_of_a_later_libvirt_counts_as_running() -> None:
    assert guest_state(99, 99) == (GuestState.RUNNING, "")
    assert guest_state(libvirt.VIR_DOMAIN_PAUSED, 99) == (GuestState.PAUSED, "")


@pytest.mark.parametrize(
    ("event", "detail", "kind"),
    [
        ("STARTED", "STARTED_BOOTED", GuestEventKind.STARTED),
        ("RESUMED", "RESUMED_UNPAUSED", GuestEventKind.RESUMED),
        ("SUSPENDED", "SUSPENDED_PAUSED", GuestEventKind.PAUSED),
        ("SUSPENDED", "SUSPENDED_IOERROR", GuestEventKind.PAUSED_IO_ERROR),
        ("SUSPENDED", "SUSPENDED_WATCHDOG", GuestEventKind.PAUSED),
        ("STOPPED", "STOPPED_SHUTDOWN", GuestEventKind.SHUT_DOWN),
        ("STOPPED", "STOPPED_DESTROYED", GuestEventKind.STOPPED),
        ("STOPPED", "STOPPED_MIGRATED", GuestEventKind.STOPPED),
        ("STOPPED", "STOPPED_CRASHED", GuestEventKind.CRASHED),
        ("STOPPED", "STOPPED_FAILED", GuestEventKind.CRASHED),
        ("CRASHED", "CRASHED_PANICKED", GuestEventKind.CRASHED),
        ("PMSUSPENDED", "PMSUSPENDED_MEMORY", GuestEventKind.PAUSED),
        ("DEFINED", "DEFINED_ADDED", None),
        ("UNDEFINED", "UNDEFINED_REMOVED", None),
        ("SHUTDOWN", "SHUTDOWN_FINISHED", None),
    ],
)
def test_events(event: str, detail: str, kind: GuestEventKind | None) -> None:
    found = guest_event(getattr(libvirt, f"VIR_DOMAIN_EVENT_{event}"), getattr(libvirt, f"VIR_DOMAIN_EVENT_{detail}"))
    assert (found[0] if found else None) is kind


def test_versions_as_people_write_them() -> None:
    assert version_text(9_000_000) == "9.0.0"
    assert version_text(11_003_012) == "11.3.12"
