"""Whether every node can reach what a guest needs."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from holdfast.hypervisor.guest_paths import (
    GuestPath,
    PathUse,
    check_links,
    check_shared,
    is_surely_shared,
    paths_outside,
)
from holdfast.model.errors import InvalidInput


def disk(path: str) -> GuestPath:
    return GuestPath(use=PathUse.DISK, path=path)


@pytest.mark.parametrize("path", ["/srv/vm/a.img", "/srv/vm/deep/er/a.img", "/srv//vm/./a.img", "/srv/vm/x/../a.img"])
def test_below_a_shared_directory(path: str) -> None:
    assert paths_outside([disk(path)], ["/other", "/srv/vm/"]) == ()


@pytest.mark.parametrize(
    "path", ["/srv/vm/../a.img", "/srv/vm-old/a.img", "/srv/vm", "/srv", "//etc/a.img", "/srv/vm/../../srv/v/a"]
)
def test_not_below_a_shared_directory(path: str) -> None:
    assert paths_outside([disk(path)], ["/srv/vm"]) == (disk(path),)


def test_the_root_holds_everything() -> None:
    assert paths_outside([disk("/a.img")], ["/"]) == ()


def test_the_refusal_names_each_path_and_what_would_do() -> None:
    kernel = GuestPath(use=PathUse.KERNEL, path="/boot/vmlinuz")
    with pytest.raises(InvalidInput) as caught:
        check_shared([disk("/srv/vm/good.img"), disk("/tmp/bad.img"), kernel], ["/srv/vm"])
    assert "/tmp/bad.img (disk), /boot/vmlinuz (kernel)" in caught.value.message
    assert "good.img" not in caught.value.message
    assert "/srv/vm" in caught.value.hint


def test_without_shared_directories_nothing_is_shared() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_shared([disk("/a.img")], [])
    assert "none is configured" in caught.value.hint


def test_links_are_followed(tmp_path: Path) -> None:
    shared, local = tmp_path / "shared", tmp_path / "local"
    shared.mkdir()
    local.mkdir()
    (local / "a.img").touch()
    (shared / "link").symlink_to(local)
    (shared / "inner").symlink_to(shared / "b.img")
    check_links([disk(str(shared / "inner")), disk(str(shared / "not-yet.img"))], [str(shared)])
    with pytest.raises(InvalidInput, match="by a link"):
        check_links([disk(str(shared / "link/a.img"))], [str(shared)])


def test_a_shared_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "shared").symlink_to(tmp_path / "real")
    check_links([disk(str(tmp_path / "shared/a.img"))], [str(tmp_path / "shared")])


DISK = "<disk type='{kind}'><source {source}/><driver cache='{cache}'/>{more}</disk>"


@pytest.mark.parametrize(
    ("kind", "source", "cache", "more", "is_shared"),
    [
        ("file", "file='/shared/a.img'", "none", "", True),
        ("file", "file='/shared/a.img'", "directsync", "", True),
        ("file", "file='/shared/a.img'", "writeback", "", False),
        ("file", "file='/shared/a.img'", "writeback", "<readonly/>", True),
        ("file", "file='/shared/../a.img'", "none", "", False),
        ("file", "file='/local/a.img'", "none", "<readonly/>", False),
        ("block", "dev='/dev/disk/by-id/a'", "none", "", True),
        ("block", "dev='/dev/disk/by-id/a'", "writethrough", "", False),
        ("network", "protocol='nbd'", "writeback", "", True),
    ],
)
def test_what_two_hosts_surely_see_alike(kind: str, source: str, cache: str, more: str, is_shared: bool) -> None:
    disk = DISK.format(kind=kind, source=source, cache=cache, more=more)
    root = ElementTree.fromstring(f"<domain><devices>{disk}</devices></domain>")
    assert is_surely_shared(root, ["/shared"]) is is_shared
