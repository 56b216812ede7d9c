"""The cluster database of a lab as its own command line sees it: who its members are, and who leads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from holdfast.lab.lab import Lab

ETCDCTL = (
    "etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    "--cacert=/var/lib/holdfast/pki/ca.crt",
    "--cert=/var/lib/holdfast/pki/node.crt",
    "--key=/var/lib/holdfast/pki/node.key",
)
"""To be executed on a node that has a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabDatabase:
    """The database, asked on one node that has a member of it."""

    lab: Lab
    asked: str

    async def leader(self) -> str:
        """Return the name of the member that leads, which is its node's. Raises: LabBroken."""
        ids = await self.members()
        leader = (await self._etcdctl(self.asked, "endpoint", "status"))[0]["Status"]["leader"]
        return next(name for name, number in ids.items() if number == leader)

    async def lead(self, wanted: str) -> None:
        """Have a member lead. Raises: LabBroken."""
        leader = await self.leader()
        if leader != wanted:
            await self.lab.execute(leader, *ETCDCTL, "move-leader", f"{(await self.members())[wanted]:x}")

    async def members(self) -> dict[str, int]:
        """Return the members' numbers by their names; one that has not started yet has none. Raises: LabBroken."""
        told = await self._etcdctl(self.asked, "member", "list")
        return {member.get("name", ""): int(member["ID"]) for member in told["members"]}

    async def _etcdctl(self, node: str, *command: str) -> Any:
        return json.loads((await self.lab.execute(node, *ETCDCTL, *command, "--write-out=json")).output)
