"""Hand-made documents about disks."""

from dataclasses import replace

from tests.unit.cli.documents import GIB, NOON_MS

from holdfast.model.disk_status import (
    AddedDisk,
    CheckResult,
    CheckStep,
    DiskCheck,
    DiskNode,
    DiskStatus,
    SeenDisk,
)

DESIGNATOR = "naa.600140505f3c1a8d0e74b2f96a1c7d38"
DEVICE = "/dev/disk/by-id/wwn-0x600140505f3c1a8d0e74b2f96a1c7d38"
DATA = DiskStatus(
    name="data",
    designator=DESIGNATOR,
    size_bytes=100 * GIB,
    guest_source=DEVICE,
    reservations=f"sg:{DEVICE}",
    forgets_reservations=False,
    added_at_ms=NOON_MS,
    used_by=("db1",),
    nodes={
        "node1": DiskNode(state="ready", detail="", latency_ms=1),
        "node2": DiskNode(state="unreachable", detail="no answer within 5000 ms", latency_ms=None),
        "node3": DiskNode(state="expelled", detail="this node was expelled from it", latency_ms=2),
    },
)
LOGS = replace(DATA, name="logs", designator="naa.6001", used_by=(), forgets_reservations=True, nodes={})
SEEN = (
    SeenDisk(
        way=f"sg:{DEVICE}",
        disk="data",
        designator=DESIGNATOR,
        vendor="LIO-ORG",
        product="disk",
        serial_number="05f3c1a8",
        size_bytes=100 * GIB,
        keys=3,
        reservation="write exclusive registrants only",
        keeps_reservations=True,
    ),
    SeenDisk(
        way="iqn.2026-01.net.example:san LUN 1",
        designator="t10.IET 1",
        vendor="IET",
        product="VIRTUAL-DISK",
        size_bytes=GIB,
        keys=0,
    ),
    SeenDisk(
        way="sg:/dev/disk/by-id/wwn-0x5000",
        designator="naa.5000",
        vendor="ATA",
        product="SSD",
        size_bytes=GIB,
        problem="no persistent reservations: invalid command operation code",
    ),
    SeenDisk(way="helper:/run/adapter/x.reservations", problem="INQUIRY was not sent: Connection refused"),
)


def step(name: str, result: CheckResult, words: str) -> CheckStep:
    return CheckStep(name=name, result=result, words=words)


GOOD_CHECK = DiskCheck(
    way=f"sg:{DEVICE}",
    node="node1",
    disk="data",
    is_fit=True,
    steps=(
        step("reach", CheckResult.OK, "answers after 0.4 ms"),
        step("power loss", CheckResult.WARNING, "the target forgets reservations when it loses power"),
        step("rehearsal", CheckResult.SKIPPED, "not tried: the disk is in the cluster"),
    ),
)
BAD_CHECK = replace(
    GOOD_CHECK,
    is_fit=False,
    disk=None,
    steps=(step("reach", CheckResult.FAILED, "TEST UNIT READY has no answer: none from the kernel within 5000 ms"),),
)
ADDED = AddedDisk(disk=LOGS, check=GOOD_CHECK)
