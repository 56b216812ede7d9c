"""A person's domain XML: what is taken from it, what is changed, and what every mistake is told."""

from xml.etree import ElementTree

import pytest

from holdfast.hypervisor.domain_xml import parse_guest, uuid_of
from holdfast.hypervisor.guest_paths import PathUse
from holdfast.model.errors import InvalidInput

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"

GOOD = f"""
<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web-1</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os><type machine='pc'>hvm</type><kernel>/shared/vmlinuz</kernel><nvram>/shared/web-1.fd</nvram></os>
  <on_crash>preserve</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' rerror_policy='report'/><source file='/shared/web-1.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='block'><source dev='/dev/mapper/data'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <serial type='file'><source path='/var/log/web-1.log'/></serial>
  </devices>
  <seclabel type='none'/>
  <qemu:commandline><qemu:arg value='-no-hpet'/></qemu:commandline>
</domain>
"""


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(parse_guest(text, uuid_if_missing=UUID).domain_xml)


def test_what_is_read() -> None:
    guest = parse_guest(GOOD, uuid_if_missing="")
    assert (guest.name, guest.uuid, guest.memory_bytes, guest.vcpus) == ("web-1", UUID, 512 * 2**20, 2)
    assert guest.disk_paths == ("/shared/web-1.qcow2", "/dev/mapper/data")
    assert [(item.use, item.path) for item in guest.paths[2:]] == [
        (PathUse.KERNEL, "/shared/vmlinuz"),
        (PathUse.FIRMWARE_VARIABLES, "/shared/web-1.fd"),
    ]


def test_what_is_changed() -> None:
    root = parse(GOOD)
    assert "id" not in root.attrib
    assert [root.findtext(tag) for tag in ("on_poweroff", "on_reboot", "on_crash")] == ["destroy", "restart", "destroy"]
    written, added, cdrom = root.findall("./devices/disk")
    driver = written.find("driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "type": "qcow2", "rerror_policy": "report", "error_policy": "stop"}
    driver = added.find("driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "error_policy": "stop", "rerror_policy": "stop"}
    assert cdrom.find("driver") is None


def test_what_is_left_alone() -> None:
    text = parse_guest(GOOD, uuid_if_missing="").domain_xml
    assert "<seclabel type=" in text
    assert "<qemu:commandline><qemu:arg value=" in text


def test_a_missing_uuid_is_given_and_another_spelling_is_made_plain() -> None:
    missing = GOOD.replace(f"<uuid>{UUID}</uuid>", "")
    assert parse_guest(missing, uuid_if_missing=UUID).uuid == UUID
    assert uuid_of(parse_guest(missing, uuid_if_missing=UUID).domain_xml) == UUID
    spelled = GOOD.replace(UUID, UUID.upper().replace("-", ""))
    assert parse_guest(spelled, uuid_if_missing="").uuid == UUID


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ("<memory>2048</memory>", 2 * 2**20),
        ("<memory unit='KiB'>2048</memory>", 2 * 2**20),
        ("<memory unit='MB'>3</memory>", 3_000_000),
        ("<memory unit='g'>1</memory>", 2**30),
        ("<memory unit='bytes'>4096</memory>", 4096),
        ("<memory unit='TiB'> 1 </memory>", 2**40),
    ],
)
def test_memory_in_every_unit(memory: str, wanted: int) -> None:
    assert (
        parse_guest(GOOD.replace("<memory unit='MiB'>512</memory>", memory), uuid_if_missing="").memory_bytes == wanted
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</domain>", "", r"malformed at line \d+, column \d+: no element found"),
        ("<vcpu>", "<vcpu", r"malformed at line 6, column \d+"),
        ("<name>web-1</name>", "", "has no name"),
        ("web-1</name>", "web/1</name>", "name 'web/1' is not usable"),
        ("web-1</name>", "-web</name>", "name '-web' is not usable"),
        ("web-1</name>", "w" * 64 + "</name>", "1 to 63 letters"),
        ("web-1</name>", "wéb</name>", "name 'wéb'"),
        (UUID, "not-a-uuid", "uuid 'not-a-uuid' is not one"),
        ("type='kvm' id", "type='xen' id", "type is 'xen'; 'kvm' or 'qemu' is wanted"),
        ("type='kvm' id", "id", "has no type"),
        ("<memory unit='MiB'>512</memory>", "", "has no memory"),
        (">512<", ">0<", "memory is '0' MiB"),
        (">512<", ">-5<", "memory is '-5' MiB"),
        (">512<", ">half<", "memory is 'half' MiB"),
        (">512<", ">999999999999<", "below 1 PiB"),
        ("unit='MiB'", "unit='furlong'", "unit 'furlong' is not known"),
        ("<vcpu>2</vcpu>", "", "has no vcpu"),
        ("<vcpu>2<", "<vcpu>0<", "'0' vcpus"),
        ("<vcpu>2<", "<vcpu>two<", "'two' vcpus"),
        ("<source file='/shared/web-1.qcow2'/>", "", "Disk 'vda' has no source"),
        ("<source file='/shared/web-1.qcow2'/>", "<source/>", "Disk 'vda' has no source"),
        ("'/shared/web-1.qcow2'", "'web-1.qcow2'", "path 'web-1.qcow2' \\(disk\\) is not absolute"),
        (
            "type='block'",
            "type='network'",
            "Disk 'vdb' has the type 'network'; 'file', 'block' or a 'volume' of the pool",
        ),
        ("/shared/vmlinuz", "vmlinuz", "path 'vmlinuz' \\(kernel\\) is not absolute"),
    ],
)
def test_every_mistake_is_told(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_guest(GOOD.replace(old, new, 1), uuid_if_missing="")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("hello", "malformed at line 1, column 1"),
        ("<network><name>n</name></network>", "root element is <network>; <domain> is wanted"),
        ("<!DOCTYPE d [<!ENTITY a 'aa'>]><domain>&a;</domain>", "document type"),
        ("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>", "document type"),
        ("<domain>&undefined;</domain>", "undefined entity"),
        ("<a>" * 100_000, "nests more than 64 elements"),
        ("<domain>" + " " * 2**20 + "</domain>", "at most 1048576 are accepted"),
        ("<domain>\ud800</domain>", "not valid Unicode at offset 8"),
        ("<domain>\x00</domain>", "malformed"),
    ],
)
def test_what_is_no_domain_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_guest(text, uuid_if_missing=UUID)


def test_a_path_of_a_named_backing_file_counts() -> None:
    chain = "<backingStore type='file'><source file='/local/base.img'/></backingStore>"
    text = GOOD.replace("<source file='/shared/web-1.qcow2'/>", "<source file='/shared/web-1.qcow2'/>" + chain)
    assert "/local/base.img" in parse_guest(text, uuid_if_missing="").disk_paths
