"""Names and ids, one type each, so that no two can be confused."""

from __future__ import annotations

from typing import Final, NewType

ClusterId = NewType("ClusterId", str)
NodeName = NewType("NodeName", str)
RoleName = NewType("RoleName", str)
NetworkName = NewType("NetworkName", str)
SiteName = NewType("SiteName", str)
DiskName = NewType("DiskName", str)

FaultDomain = NewType("FaultDomain", str)
"""What takes down all that depend on it when it fails, as KIND:NAME: `power:A`, `rack:3`, `storage:san1`."""
FAULT_DOMAIN_PATTERN: Final = r"^[a-z][a-z0-9-]{0,15}:[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

Incarnation = NewType("Incarnation", str)
"""One start of one machine, as a UUID. A node that was fenced and came back has another one."""

Epoch = NewType("Epoch", int)
"""Counts the owners a role has had, from 1; 0 before the first. Nothing acts on an old epoch. Source: SAFE-3."""

Revision = NewType("Revision", int)
"""A revision of the cluster database. 0 as a key's revision means that the key is absent."""
