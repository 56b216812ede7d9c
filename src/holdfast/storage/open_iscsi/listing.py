"""Read ``iscsiadm -m session -P 3``, which tells of every session and its disks.

Rule of the file: a line is known by its label, wherever it stands; what is not known is passed over.
Source: open-iscsi, ``usr/session_info.c``: a target's or portal's line is left out when it is as in the session before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from holdfast.model.kernel_sessions import KernelSession, SessionDisk

_LABELLED: Final = re.compile(r"\s*([A-Za-z][A-Za-z ]*): (.*?)\s*")
_UNIT: Final = re.compile(r"\s*scsi\d+ Channel \d+ Id \d+ Lun: (\d+)\s*")
_DISK: Final = re.compile(r"\s*Attached scsi disk (\S+)\s+State: (\S+)\s*")


def parse_sessions(text: str) -> tuple[KernelSession, ...]:
    """Return the sessions, ordered by target and portal. Units without a disk of the kernel are left out."""
    found: list[KernelSession] = []
    last: dict[str, str] = {}
    for line in text.splitlines():
        if disk := _DISK.fullmatch(line):
            if found:
                seen = SessionDisk(lun=int(last.get("Lun", 0)), device=f"/dev/{disk[1]}", state=disk[2])
                found[-1] = replace(found[-1], disks=(*found[-1].disks, seen))
        elif unit := _UNIT.fullmatch(line):
            last["Lun"] = unit[1]
        elif labelled := _LABELLED.fullmatch(line):
            label, value = labelled.groups()
            last[label] = value
            if label == "SID":
                found.append(_begun(last))
            elif found:
                found[-1] = _told(found[-1], label, value)
    return tuple(sorted(found, key=lambda session: (session.target, session.portal, session.id)))


def _begun(last: Mapping[str, str]) -> KernelSession:
    return KernelSession(
        id=int(last["SID"]),
        target=last.get("Target", "").partition(" ")[0],
        portal=last.get("Persistent Portal", "").rpartition(",")[0],
        state="",
        initiator=last.get("Iface Initiatorname", ""),
    )


def _told(session: KernelSession, label: str, value: str) -> KernelSession:
    match label:
        case "iSCSI Session State":
            return replace(session, state=value)
        case "Recovery Timeout" if value.lstrip("-").isdigit():
            return replace(session, replacement_timeout_s=int(value))
        case _:
            return session
