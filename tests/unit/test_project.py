"""What holds for the repository as a whole: its metadata, its lock, its entry points, and what never enters it."""

import importlib
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import holdfast

ROOT = Path(__file__).parents[2]

# Put together here, so that this file does not contain what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pypi", "python", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
    )
]
REGISTRY_OPTIONS = ["--" + option for option in ("index-url", "extra-index-url", "find-links", "trusted-host")]


def project() -> dict[str, Any]:
    metadata: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return metadata


def entry_points() -> dict[str, str]:
    scripts: dict[str, str] = project()["scripts"]
    return scripts


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_tracked_file_names_a_package_registry() -> None:
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    found = {
        (str(path.relative_to(ROOT)), host)
        for path in files
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    }
    assert found == set()


def test_lock_takes_packages_from_wherever_the_user_configured() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    for option in REGISTRY_OPTIONS:
        assert not [line for line in lines if option in line and not line.lstrip().startswith("#")]


def test_every_locked_package_has_a_hash() -> None:
    locked = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    pinned = [block for block in locked if "==" in block.splitlines()[0]]
    assert len(pinned) > len(project()["dependencies"])
    assert [block.splitlines()[0] for block in pinned if "--hash=sha256:" not in block] == []


def test_every_declared_dependency_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = {normalized(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    declared = project()["dependencies"] + project()["optional-dependencies"]["dev"]
    names = {normalized(re.split(r"[><=~!;\[ ]", requirement)[0]) for requirement in declared}
    assert names - locked == set()


def test_every_declared_dependency_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in project()["dependencies"] + project()["optional-dependencies"]["dev"]:
        assert re.search(rf'^ +"{re.escape(requirement)}",  # \w', text, re.MULTILINE), requirement


def test_installed_version_is_the_package_version() -> None:
    assert importlib.metadata.version("holdfast") == holdfast.__version__


def test_changelog_begins_with_the_package_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == holdfast.__version__


def test_installed_entry_points_are_the_declared_ones() -> None:
    installed = importlib.metadata.distribution("holdfast").entry_points.select(group="console_scripts")
    assert {entry.name: entry.value for entry in installed} == entry_points()


@pytest.mark.parametrize("program", entry_points())
def test_entry_point_can_be_called(program: str) -> None:
    module, _, function = entry_points()[program].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("unit", sorted(path.name for path in (ROOT / "packaging/systemd").glob("*.service")))
def test_systemd_unit_starts_a_program_of_ours(unit: str) -> None:
    text = (ROOT / "packaging/systemd" / unit).read_text()
    started = re.search(r"^ExecSt(?:art|op)=-?/usr/bin/(\S+)", text, re.MULTILINE)
    assert started is not None
    assert started[1] in entry_points()
    assert unit.startswith(started[1])


def test_units_leave_guests_and_the_database_running() -> None:
    daemon = (ROOT / "packaging/systemd/holdfastd.service").read_text().splitlines()
    guard = (ROOT / "packaging/systemd/holdfast-guard.service").read_text().splitlines()
    assert {"KillMode=process", "Restart=always", "RuntimeDirectoryPreserve=yes"} <= set(daemon)
    assert not [line for line in guard if re.match(r"(PartOf|BindsTo|Requires)=.*holdfastd", line)]
