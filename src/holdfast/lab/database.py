"""The cluster database of a lab as its own command line sees it: its members, who leads them, what was written."""

from __future__ import annotations

import base64
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
PREFIX = "holdfast/"
FILLER = "filler/"
READ_S = 2
"""A watch of what was written does not say when it has told all; it has, long before this."""
FILLER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key that was written. `value` None: removed."""

    key: str
    revision: int
    value: bytes | None


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

    async def member_ids(self) -> dict[str, int]:
        """Return the members by name. Raises: LabBroken."""
        return {name: member["ID"] for name, member in (await self._members()).items()}

    async def called_at(self) -> dict[str, set[str]]:
        """Return per member's name the addresses at which the others call it. Raises: LabBroken."""
        members = (await self._members()).items()
        return {name: {url.split("/")[-1].rpartition(":")[0] for url in one["peerURLs"]} for name, one in members}

    async def revision(self) -> int:
        """Return the newest revision. Raises: LabBroken."""
        told = await self._etcdctl(LOCAL, "get", PREFIX)
        return int(told["header"]["revision"])

    async def changes(self, since: int) -> list[Change]:
        """Return what the cluster wrote after a revision, oldest first; those of one revision were one transaction."""
        watch = (*ETCDCTL, f"--endpoints={LOCAL}", "watch", "--prefix", PREFIX, f"--rev={since + 1}")
        told = await self.lab.execute(
            self.asked, "timeout", str(READ_S), *watch, "--write-out=json", timeout_s=READ_S + 10, check=False
        )
        events = [event for line in told.output.splitlines() for event in json.loads(line)["Events"]]
        return [
            Change(
                key=base64.b64decode(event["kv"]["key"]).decode(),
                revision=event["kv"]["mod_revision"],
                value=base64.b64decode(event["kv"].get("value", "")) if "type" not in event else None,
            )
            for event in events
        ]

    async def grow(self, *, megabytes: int) -> None:
        """Write so much that is not the cluster's, and remove it; the members' files stay larger. Raises: LabBroken."""
        put = " ".join((*ETCDCTL, f"--endpoints={LOCAL}", "put", FILLER))
        script = (
            f"for n in $(seq {megabytes}); do head -c {FILLER_BYTES} /dev/zero | tr '\\0' x | {put}$n || exit 1; done"
        )
        await self.lab.execute(self.asked, "sh", "-c", script)
        await self._execute(LOCAL, "del", "--prefix", FILLER)

    async def _members(self) -> dict[str, Any]:
        told = await self._etcdctl(LOCAL, "member", "list")
        return {member.get("name", ""): member for member in told["members"]}

    async def _etcdctl(self, endpoint: str, *command: str) -> Any:
        return json.loads(await self._execute(endpoint, *command, "--write-out=json"))

    async def _execute(self, endpoint: str, *command: str) -> str:
        return (await self.lab.execute(self.asked, *ETCDCTL, f"--endpoints={endpoint}", *command)).output
