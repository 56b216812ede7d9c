"""The cluster database of a lab as its own command line sees it: who its members are, and who leads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from holdfast.lab.lab import Lab

LOCAL = "https://127.0.0.1:2379"
ETCDCTL = (
    "etcdctl",
    "--cacert=/var/lib/holdfast/pki/ca.crt",
    "--cert=/var/lib/holdfast/pki/node.crt",
    "--key=/var/lib/holdfast/pki/node.key",
)
"""To be executed on a node, with the endpoints of a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabDatabase:
    """The database, asked on one node that has a member of it."""

    lab: Lab
    asked: str

    async def leader(self) -> str:
        """Return the name of the member that leads, which is its node's. Raises: LabBroken."""
        number = (await self._etcdctl(LOCAL, "endpoint", "status"))[0]["Status"]["leader"]
        return next(name for name, member in (await self._members()).items() if member["ID"] == number)

    async def lead(self, wanted: str) -> None:
        """Have a member lead. Raises: LabBroken."""
        leader, members = await self.leader(), await self._members()
        if leader != wanted:
            asked = members[leader]["clientURLs"][0]
            await self._execute(asked, "move-leader", f"{members[wanted]['ID']:x}")

    async def members(self) -> list[str]:
        """Return the members' names; one that has not started yet has an empty one. Raises: LabBroken."""
        return list(await self._members())

    async def _members(self) -> dict[str, Any]:
        told = await self._etcdctl(LOCAL, "member", "list")
        return {member.get("name", ""): member for member in told["members"]}

    async def _etcdctl(self, endpoint: str, *command: str) -> Any:
        return json.loads(await self._execute(endpoint, *command, "--write-out=json"))

    async def _execute(self, endpoint: str, *command: str) -> str:
        return (await self.lab.execute(self.asked, *ETCDCTL, f"--endpoints={endpoint}", *command)).output
