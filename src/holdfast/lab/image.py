"""The guests' kernel and initramfs, made on the spot from Debian's packages.

Rule of the file: nothing is installed and nothing is downloaded twice: the kernel package is unpacked into a cache, and
the initramfs (busybox, perl, five drivers, two small scripts) is rebuilt only when one of its parts changed.
Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst (cpio "newc").
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.lab.errors import LabBroken
from holdfast.lab.layout import IMAGE_CACHE
from holdfast.lab.tools import run_tool

KERNEL_PACKAGE = "linux-image-cloud-amd64"
_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net", "button", "evdev")
_SCRIPTS = Path(__file__).parent / "guest"
_SIGNATURE = b"~Module signature appended~\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """What a guest boots from."""

    kernel: Path
    initramfs: Path


async def guest_image(progress: Callable[[str], None]) -> GuestImage:
    """Return the image, making what is missing. Raises: LabBroken when Debian's packages cannot be had."""
    kernel = IMAGE_CACHE / "kernel"
    if not kernel.exists():
        progress(f"fetching the guests' kernel ({KERNEL_PACKAGE})")
        await _unpack_kernel(kernel)
    return await asyncio.to_thread(_build_initramfs, kernel, await _programs())


async def _unpack_kernel(target: Path) -> None:
    IMAGE_CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=IMAGE_CACHE) as name:
        work = Path(name)
        package = await _real_package()
        await run_tool("sh", "-c", 'cd "$0" && apt-get download -q "$1"', name, package, timeout_s=600)
        (archive,) = work.glob("*.deb")
        await run_tool("dpkg-deb", "-x", str(archive), str(work / "tree"))
        ready = work / "ready"
        ready.mkdir()
        (kernel,) = (work / "tree/boot").glob("vmlinuz-*")
        shutil.copy(kernel, ready / "vmlinuz")
        _collect_drivers(work / "tree/lib/modules", ready)
        if not target.exists():
            ready.rename(target)


async def _real_package() -> str:
    """Return the versioned package behind Debian's meta package, refreshing apt's lists when they are empty."""
    for attempt in range(2):
        depends = await run_tool("apt-cache", "depends", KERNEL_PACKAGE) if attempt else await _depends_or_nothing()
        found = re.search(r"Depends: (linux-image-\S+)", depends)
        if found:
            return found[1]
        await run_tool("apt-get", "update", "-q", timeout_s=600)
    raise LabBroken(f"apt knows no {KERNEL_PACKAGE}", hint="the guests need a Debian mirror in apt's sources, once")


async def _depends_or_nothing() -> str:
    try:
        return await run_tool("apt-cache", "depends", KERNEL_PACKAGE)
    except LabBroken:
        return ""


def _collect_drivers(modules: Path, target: Path) -> None:
    """Copy the drivers and what they depend on, and write the order to load them in.

    Their signatures are cut off: nobody checks them here, and under emulation checking takes a noticeable time.
    """
    files = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    order: list[str] = []

    def add(name: str) -> None:
        found = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for needed in found[1].decode().split(",") if found else ():
            if needed:
                add(needed.replace("-", "_"))
        if name not in order:
            order.append(name)

    for driver in _DRIVERS:
        add(driver)
    (target / "modules").mkdir()
    for name in order:
        (target / "modules" / f"{name}.ko").write_bytes(_without_signature(files[name].read_bytes()))
    (target / "modules" / "order").write_text("".join(f"{name}.ko\n" for name in order))


def _without_signature(module: bytes) -> bytes:
    """Source: Linux include/linux/module_signature.h (12 bytes, the last four its length, before the magic)."""
    if not module.endswith(_SIGNATURE):
        return module
    end = len(module) - len(_SIGNATURE)
    return module[: end - 12 - int.from_bytes(module[end - 4 : end], "big")]


async def _programs() -> dict[str, Path]:
    """Return the programs of the guest and the libraries that perl needs, by their path in the guest."""
    libraries = re.findall(r"(/\S+) \(0x", await run_tool("ldd", "/usr/bin/perl"))
    busybox = shutil.which("busybox")
    if busybox is None:
        raise LabBroken("busybox is missing", hint="run ./dev setup (Debian package busybox-static)")
    return {"bin/busybox": Path(busybox), "bin/perl": Path("/usr/bin/perl")} | {
        library.lstrip("/"): Path(library) for library in libraries
    }


def _build_initramfs(kernel: Path, programs: dict[str, Path]) -> GuestImage:
    files = {name: (0o755, path.read_bytes()) for name, path in programs.items()}
    files["init"] = (0o755, (_SCRIPTS / "init.sh").read_bytes())
    files["agent.pl"] = (0o644, (_SCRIPTS / "agent.pl").read_bytes())
    for module in sorted((kernel / "modules").iterdir()):
        files[f"modules/{module.name}"] = (0o644, module.read_bytes())
    archive = cpio_archive(("dev", "proc", "sys"), files)
    target = IMAGE_CACHE / f"initramfs-{hashlib.sha256(archive).hexdigest()[:16]}"
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=IMAGE_CACHE, delete=False) as partial:
            partial.write(archive)  # not compressed: unpacking costs an emulated guest a third of a second
        Path(partial.name).rename(target)
    return GuestImage(kernel=kernel / "vmlinuz", initramfs=target)


def cpio_archive(folders: tuple[str, ...], files: dict[str, tuple[int, bytes]]) -> bytes:
    """Return an initramfs in cpio's "newc" format; the folders that files lie in are added."""
    parents = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    members = [(name, 0o40755, b"") for name in sorted(parents | set(folders))]
    members += [(name, 0o100000 | mode, content) for name, (mode, content) in files.items()]
    members.append(("TRAILER!!!", 0, b""))
    archive = bytearray()
    for number, (name, mode, content) in enumerate(members, 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
