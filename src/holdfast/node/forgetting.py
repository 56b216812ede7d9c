"""`node.forget`: a machine that its cluster took out, and that cannot learn of it, leaves it on a person's word.

Rule of the file: it needs no database, for none answers a revoked certificate; and nothing of what the machine was may
run when it is in no cluster. Source: SAFE-1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from holdfast.membership.identity import IncarnationFile, NodeIdentity, read_boot_id
from holdfast.model.errors import InvalidInput, Refused
from holdfast.node.config import DaemonConfig
from holdfast.node.founding import Tell
from holdfast.node.left_behind import set_forgotten_aside

METHOD: Final = "node.forget"

EndGuests = Callable[[Collection[str]], Awaitable[None]]
"""Ends guests and all that the guard knows, for certain. Raises: HoldfastError while that is not certain."""


class ForgetParams(BaseModel):
    """What `holdfast node forget` asks for. `cluster`: its name, as the person typed it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """One machine that is to forget its cluster. `roles`: uuids of guests that the node which lives here knows."""

    config: DaemonConfig
    identity: NodeIdentity
    roles: Collection[str]
    end_guests: EndGuests

    async def forget(self, tell: Tell) -> dict[str, str]:
        """Do it, while no node lives here; may be repeated after it was broken off anywhere. Raises: HoldfastError."""
        tell("ending every guest of a role on this machine")
        await self.end_guests(self.roles)
        # What was proven of the node that was taken out must never be true of the one that joins. Source: SAFE-2.
        IncarnationFile(read_boot_id(), self.config.run_directory / "incarnation").replace()
        folder = await set_forgotten_aside(self.config, self.identity.node_id)
        return {"node": self.identity.node, "cluster": self.identity.cluster_name, "kept": str(folder)}


def check(params: dict[str, Any], identity: NodeIdentity, *, is_up: bool) -> None:
    """Refuse what a slip of a person would be. Raises: InvalidInput, Refused."""
    wanted = ForgetParams.model_validate(params).cluster
    if wanted != identity.cluster_name:
        raise InvalidInput(
            f"this machine is a node of cluster {identity.cluster_name}, not of {wanted}; nothing was done",
            hint=f"holdfast node forget --yes {identity.cluster_name}",
        )
    if is_up:
        raise Refused(
            f"node {identity.node} is up in cluster {identity.cluster_name}; nothing was done",
            hint="holdfast node leave; if it was taken out while it was cut off: restart holdfastd, then forget",
        )
