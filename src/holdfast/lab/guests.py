"""The lab's guests: their disks, their domain XML, and asking them over the vm network.

Rule of the file: a guest is known by its name and its index; address, MAC and uuid follow from them, so the same guest
is the same guest on every node.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from holdfast.hypervisor.disk_sources import POOL
from holdfast.lab.acceleration import DISK_BYTES, KERNEL_OPTIONS, QEMU
from holdfast.lab.errors import LabBroken
from holdfast.lab.image import GuestImage
from holdfast.lab.layout import SHARED_MOUNT, Layout, guest_address, guest_mac
from holdfast.lab.luns import Lun
from holdfast.lab.namespaces import open_socket
from holdfast.lab.switch import GUEST_BRIDGE

ANSWER_PORT = 7
_TRY_S = 0.25
_PAUSE_S = 0.02
_UUIDS = uuid.UUID("1b0b41a6-5a3b-4c4e-9d0f-8a5b9a1d2c3e")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestAnswer:
    """One line of a guest, and when this process asked for it and had it (monotonic seconds)."""

    boot_id: str
    beats: int
    longest_gap_ms: float
    """Between two answers to its ticks, see `pauses`; 0 when it has not measured."""
    asked_at: float
    answered_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One guest of a lab, whether it runs or not."""

    layout: Layout
    name: str
    index: int

    @property
    def address(self) -> str:
        """Its address on the vm network."""
        return guest_address(self.index)

    @property
    def disk(self) -> Path:
        """Its disk, as seen from the machine; nodes see it below ``/srv/holdfast/shared``."""
        return self.layout.shared / f"{self.name}.raw"

    @property
    def serial_log(self) -> Path:
        """What its serial console printed, of all its boots, as seen from the machine."""
        return self.layout.shared / f"{self.name}.serial.log"

    @property
    def has_panicked(self) -> bool:
        """Whether its kernel died by itself: a few in a hundred do that are copied alive under TCG.

        Source: QEMU commit 9458a9a1 (a race in which a copy misses what an emulated guest writes); 7.2 still has some.
        """
        return self.serial_log.exists() and b"Kernel panic" in self.serial_log.read_bytes()

    def make_disk(self) -> None:
        """Give it an empty disk, fully written so that later writes never have to find space."""
        self.disk.write_bytes(bytes(DISK_BYTES))

    async def ask(self, *, timeout_s: float = _TRY_S) -> GuestAnswer | None:
        """Return its answer over the vm network; None when there is none in time. Raises: LabNotRunning."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        with open_socket(self.layout.switch_namespace, socket.AF_INET, socket.SOCK_STREAM) as link:
            try:
                async with asyncio.timeout(timeout_s):
                    await loop.sock_connect(link, (self.address, ANSWER_PORT))
                    line = await loop.sock_recv(link, 512)
            except (TimeoutError, OSError):
                return None
        words = dict(word.split("=", 1) for word in line.decode().split() if "=" in word)
        if "boot" not in words:
            return None
        return GuestAnswer(
            boot_id=words["boot"],
            beats=int(words["beats"]),
            longest_gap_ms=int(words["longest_gap_us"]) / 1000,
            asked_at=asked_at,
            answered_at=loop.time(),
        )

    async def wait_answer(self, *, other_than: str = "", timeout_s: float = 60.0) -> GuestAnswer:
        """Return its first answer that is of another boot than ``other_than``. Raises: LabBroken after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    answer = await self.ask()
                    if answer is not None and answer.boot_id != other_than:
                        return answer
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError as error:
            raise LabBroken(f"guest {self.name} ({self.address}) gave no answer for {timeout_s:g} s") from error


def place_image(layout: Layout, image: GuestImage) -> None:
    """Put the image on the lab's shared storage, where every node finds what a guest boots from."""
    folder = layout.shared / "image"
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((image.kernel, "vmlinuz"), (image.initramfs, "initramfs")):
        partial = folder / f".{name}"
        shutil.copy(source, partial)
        partial.rename(folder / name)


def disk_cache_mode(folder: Path) -> str:
    """Return libvirt's cache mode for raw disks in a folder: none where O_DIRECT works, else writethrough."""
    probe = folder / ".direct"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return "writethrough"
    finally:
        probe.unlink(missing_ok=True)
    return "none"


def guest_domain_xml(
    layout: Layout,
    *,
    name: str,
    index: int,
    has_kvm: bool,
    memory_mib: int = 128,
    vcpus: int = 1,
    has_disk_lock: bool = True,
    lun: Lun | None = None,
    disk: str | None = None,
) -> str:
    """Return the libvirt domain XML of a guest, whose disk is a file on the shared storage or a LUN.

    `lun` is opened as the node's adapter presents it; `disk` names one of the cluster, which puts in what QEMU opens.
    Without the disk lock (``<shareable/>``) QEMU's own image lock does not stop a second instance: for tests that must
    see a double start as one. Source: libvirt formatdomain, QEMU image locking.
    """
    shared, text = str(SHARED_MOUNT), escape(name)
    cpu = "<cpu mode='host-passthrough'/>" if has_kvm else _EMULATED_CPU
    return f"""\
<domain type='{"kvm" if has_kvm else "qemu"}'>
  <name>{text}</name>
  <uuid>{uuid.uuid5(_UUIDS, f"{layout.name}/{name}")}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{shared}/image/vmlinuz</kernel>
    <initrd>{shared}/image/initramfs</initrd>
    <cmdline>{KERNEL_OPTIONS} lab.name={text} lab.address={guest_address(index)}/24</cmdline>
  </os>
  <features><acpi/></features>
  {cpu}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{QEMU}</emulator>
    {_disk_xml(layout, text, lun, disk)}
      <target dev='vda' bus='virtio'/>{"" if has_disk_lock else "<shareable/>"}
    </disk>
    <interface type='bridge'>
      <mac address='{guest_mac(index)}'/>
      <source bridge='{GUEST_BRIDGE}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    <serial type='file'>
      <source path='{shared}/{text}.serial.log' append='on'/>
      <target port='0'/>
    </serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def _disk_xml(layout: Layout, name: str, lun: Lun | None, disk: str | None) -> str:
    """Return the beginning of the disk; a node's adapter presents a LUN as an NBD export, the same on every node."""
    if disk is not None:
        kind, cache, source = "volume", "none", f"<source pool='{POOL}' volume='{escape(disk)}'/>"
    elif lun is None:
        kind, cache = "file", disk_cache_mode(layout.shared)
        source = f"<source file='{SHARED_MOUNT}/{name}.raw'/>"
    else:
        kind, cache = "network", "none"
        host = f"<host transport='unix' socket='{lun.nbd_socket}'/>"
        source = f"<source protocol='nbd' name='{lun.designator}'>{host}</source>"
    return f"""\
<disk type='{kind}' device='disk'>
      <driver name='qemu' type='raw' cache='{cache}' error_policy='stop' rerror_policy='stop'/>
      {source}"""


_EMULATED_CPU = """<cpu mode='custom' match='exact' check='none'>
    <model fallback='forbid'>qemu64</model>
    <feature policy='require' name='rdrand'/>
  </cpu>"""
