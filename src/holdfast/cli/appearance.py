"""How states look: a symbol, the word and a colour; never the colour alone.

Rule of the file: every state of `holdfast.model.status` has a look, also for terminals that show ASCII only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from holdfast.model.status import NodeState, RoleState


@dataclass(frozen=True, slots=True)
class Look:
    """A symbol, its stand-in where only ASCII is shown, and a style."""

    symbol: str
    ascii: str
    style: str


GOOD: Final = Look("●", "*", "green")
IDLE: Final = Look("○", "o", "dim")
MOVING: Final = Look("◐", "~", "cyan")
WARNING: Final = Look("▲", "!", "yellow")
BAD: Final = Look("✖", "X", "bold red")
SAFE: Final = Look("■", "#", "magenta")
UNSURE: Final = Look("?", "?", "yellow")

NODE_LOOKS: Final[dict[NodeState, Look]] = {
    NodeState.UP: GOOD,
    NodeState.BADLY_CONNECTED: WARNING,
    NodeState.JOINING: MOVING,
    NodeState.SUSPECT: UNSURE,
    NodeState.LOST: BAD,
    NodeState.FENCED: SAFE,
    NodeState.DOWN: IDLE,
}
ROLE_LOOKS: Final[dict[RoleState, Look]] = {
    RoleState.ONLINE: GOOD,
    RoleState.STARTING: MOVING,
    RoleState.STOPPING: MOVING,
    RoleState.SAVING: MOVING,
    RoleState.MIGRATING: MOVING,
    RoleState.OFFLINE: IDLE,
    RoleState.BLOCKED: BAD,
    RoleState.UNKNOWN: UNSURE,
}


@dataclass(frozen=True, slots=True)
class Badge:
    """A look followed by words; picks the symbol that the terminal can show."""

    look: Look
    words: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._text(options)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._text(options))

    def _text(self, options: ConsoleOptions) -> Text:
        symbol = self.look.ascii if options.ascii_only else self.look.symbol
        return Text(f"{symbol} {self.words}", style=self.look.style)
