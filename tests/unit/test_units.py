"""What systemd is told: what runs, in which order things end, and that systemd itself understands it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.cli.main import cli
from holdfast.model.settings import Settings

UNITS = Path(__file__).parents[2] / "packaging/systemd"


def values(unit: str, name: str) -> list[str]:
    """All words of a setting that may be given several times."""
    lines = (UNITS / unit).read_text().splitlines()
    return [word for line in lines if line.startswith(f"{name}=") for word in line.removeprefix(f"{name}=").split()]


def test_the_node_is_emptied_while_everything_that_a_move_needs_still_runs() -> None:
    ends_before = values("holdfast-shutdown.service", "After")
    needed = ["holdfastd.service", "holdfast-guard.service", "libvirtd.service", "virtqemud.service"]
    needed += ["network-online.target", "remote-fs.target", "virt-guest-shutdown.target", "libvirt-guests.service"]
    assert [unit for unit in needed if unit not in ends_before] == []


@pytest.mark.parametrize("unit", ["holdfast-shutdown.service", "holdfastd.service"])
def test_guests_end_only_afterwards_and_the_target_that_sees_to_that_is_active(unit: str) -> None:
    assert "virt-guest-shutdown.target" in values(unit, "After")
    assert "virt-guest-shutdown.target" in values(unit, "Wants")


def test_a_restart_of_holdfastd_empties_no_node() -> None:
    tied = ("PartOf", "BindsTo", "Requires", "Requisite", "StopPropagatedFrom")
    assert [name for name in tied if values("holdfast-shutdown.service", name)] == []


def test_it_calls_a_command_that_is_there_and_gives_it_the_time_that_a_setting_can_ask_for() -> None:
    (program, *words) = values("holdfast-shutdown.service", "ExecStop")
    assert program == "-/usr/bin/holdfast"
    assert cli.get_command(None, words[0]).get_command(None, words[1]) is not None  # type: ignore[union-attr, arg-type]
    (limit,) = values("holdfast-shutdown.service", "TimeoutStopSec")
    assert int(limit.removesuffix("min")) * 60 > 3600
    Settings(shutdown_timeout_s=3600)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))
def test_systemd_understands_the_unit(unit: str, tmp_path: Path) -> None:
    """Programs are replaced by one that is there: whether they are installed is not the question."""
    for path in UNITS.glob("*.service"):
        text = path.read_text()
        for program in ("holdfastd", "holdfast-guard", "holdfast"):
            text = text.replace(f"/usr/bin/{program}", "/bin/true")
        (tmp_path / path.name).write_text(text)
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
