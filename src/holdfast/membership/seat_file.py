"""Which member of the cluster database this machine holds data for, on its own disk.

Rule of the file: a member's data is used only by the member that wrote it, and never again once it was given up: what a
voter forgot, it could vote on twice. Source: SAFE-4, docs/quorum.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from holdfast.membership.atomic_file import write_durably
from holdfast.membership.errors import IdentityInvalid

ENDED_KEPT: Final = 16


class HeldSeat(BaseModel):
    """The member whose data lies here.

    member   None: of none.
    begun    it has answered once, so that its data must be there whenever it starts.
    ended    members that were given up here, the newest last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    member: int | None = None
    begun: bool = False
    ended: tuple[int, ...] = ()

    def given_up(self) -> HeldSeat:
        """The seat after its member was given up."""
        ended = self.ended if self.member is None else (*self.ended, self.member)
        return HeldSeat(ended=ended[-ENDED_KEPT:])

    def taking(self, member: int) -> HeldSeat:
        """The seat of a new member, whose data is yet to come."""
        return HeldSeat(member=member, ended=self.ended)

    def began(self) -> HeldSeat:
        """The seat once its member has answered."""
        return self.model_copy(update={"begun": True})


class SeatFile:
    """Where this machine keeps which seat it holds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> HeldSeat | None:
        """The seat that this machine holds; None: nothing was ever noted here. Raises: IdentityInvalid."""
        try:
            return HeldSeat.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            raise IdentityInvalid(
                f"{self._path} is damaged: {error}",
                hint="delete it with the database's data beside it and start holdfastd again: "
                "the node gets a new member",
            ) from error

    def write(self, seat: HeldSeat) -> None:
        """Keep it. Raises: FileNotWritten."""
        write_durably(self._path, seat.model_dump_json(indent=2).encode() + b"\n")
