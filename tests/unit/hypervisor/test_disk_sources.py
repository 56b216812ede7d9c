"""Shared disks of the cluster in a domain: their names are kept, their sources are put in at the start."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from holdfast.hypervisor.disk_sources import BlockSource, NbdSource, parse_source, with_sources
from holdfast.hypervisor.domain_xml import GuestDefinition, parse_guest
from holdfast.hypervisor.guest_paths import check_shared
from holdfast.model.errors import InvalidInput, NotFound
from holdfast.model.ids import DiskName

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
DATA, LOGS = DiskName("data"), DiskName("logs")
NBD = "nbd+unix:///naa.6001?socket=/run/hba/naa.6001.sock"


def volume(name: str, more: str = "", device: str = "disk") -> str:
    return (
        f"<disk type='volume' device='{device}'>{more}<source pool='holdfast' volume='{name}'/>"
        f"<target dev='vd{name[0]}' bus='virtio'/></disk>"
    )


def guest(*disks: str) -> GuestDefinition:
    text = (
        f"<domain type='kvm'><name>db1</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>"
        f"<devices>{''.join(disks)}</devices></domain>"
    )
    return parse_guest(text, uuid_if_missing=UUID)


def disks_of(domain_xml: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(domain_xml).findall("./devices/disk")


def test_names_are_kept_and_need_no_path() -> None:
    file = "<disk type='file'><source file='/srv/vms/boot.img'/><target dev='vda'/></disk>"
    made = guest(volume("logs"), file, volume("data"))
    assert made.disks == (LOGS, DATA)
    assert made.disk_paths == ("/srv/vms/boot.img",)
    check_shared(made.paths, ["/srv/vms"])
    assert made.domain_xml.count('pool="holdfast"') == 2
    assert parse_guest(made.domain_xml, uuid_if_missing="") == made


def test_a_block_device_takes_the_place_of_its_name() -> None:
    made = guest(volume("data"), volume("logs", "<driver name='qemu' type='qcow2' cache='directsync'/>"))
    data, logs = disks_of(with_sources(made.domain_xml, {DATA: "/dev/disk/by-id/wwn-0x6001", LOGS: "/dev/b"}))
    assert (data.get("type"), data.get("device")) == ("block", "disk")
    source, driver, target = data.find("source"), data.find("driver"), data.find("target")
    assert source is not None
    assert source.attrib == {"dev": "/dev/disk/by-id/wwn-0x6001"}
    assert driver is not None
    assert driver.attrib == {
        "name": "qemu",
        "type": "raw",
        "cache": "none",
        "error_policy": "stop",
        "rerror_policy": "stop",
    }
    assert target is not None
    assert target.attrib == {"dev": "vdd", "bus": "virtio"}
    given = logs.find("driver")
    assert given is not None
    assert (given.get("type"), given.get("cache")) == ("qcow2", "directsync")


def test_an_nbd_export_takes_the_place_of_its_name() -> None:
    [disk] = disks_of(with_sources(guest(volume("data")).domain_xml, {DATA: NBD}))
    assert disk.get("type") == "network"
    source, host = disk.find("source"), disk.find("source/host")
    assert source is not None
    assert source.attrib == {"protocol": "nbd", "name": "naa.6001"}
    assert host is not None
    assert host.attrib == {"transport": "unix", "socket": "/run/hba/naa.6001.sock"}


def test_a_domain_without_shared_disks_stays_as_it_is() -> None:
    made = guest("<disk type='file'><source file='/srv/vms/boot.img'/><target dev='vda'/></disk>")
    assert with_sources(made.domain_xml, {}) == made.domain_xml


def test_a_disk_that_nobody_knows_is_not_left_out() -> None:
    with pytest.raises(NotFound, match="no disk 'data'"):
        with_sources(guest(volume("data")).domain_xml, {LOGS: "/dev/b"})


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ((volume("data"), volume("data")), "'data' is named twice"),
        ((volume("data", device="lun"),), "could change its reservations"),
        ((volume("data", "<driver name='qemu' cache='writeback'/>"),), "could write its pages back"),
        (("<disk type='volume'><source pool='holdfast'/></disk>",), "names no volume"),
        ((volume("data").replace("holdfast", "default"),), "has the type 'volume'"),
    ],
)
def test_refused(disks: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        guest(*disks)


def test_sources() -> None:
    assert parse_source("/dev/sdb") == BlockSource(device="/dev/sdb")
    assert parse_source(NBD) == NbdSource(export="naa.6001", socket="/run/hba/naa.6001.sock")
    assert parse_source("nbd+unix:///t10.A%20B?socket=/run/s") == NbdSource(export="t10.A B", socket="/run/s")


@pytest.mark.parametrize(
    "text",
    ["", "sdb", "/dev/sd\nb", "nbd+unix:///e", "nbd+unix:///?socket=/s", "nbd+unix://host/e?socket=/s", "nbd://h/e",
     "nbd+unix:///e?socket=s"],
)  # fmt: skip
def test_no_sources(text: str) -> None:
    with pytest.raises(InvalidInput, match="nothing that QEMU opens"):
        parse_source(text)
