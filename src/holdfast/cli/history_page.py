"""The page of `holdfast role history`: a line per move, and below it why, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from holdfast.cli.words import moment, printable
from holdfast.model.status import MoveOutcome, PastMove

_STYLES = {
    MoveOutcome.ARRIVED: "green",
    MoveOutcome.ELSEWHERE: "yellow",
    MoveOutcome.RETURNED: "yellow",
    MoveOutcome.UNDER_WAY: "cyan",
}


def history_page(role: str, moves: Sequence[PastMove]) -> RenderableType:
    """Return the moves, oldest first."""
    if not moves:
        return Text(f"no move of {role} is in the events that are kept")
    return Group(*(part for move in moves for part in _move(move)))


def _move(move: PastMove) -> list[RenderableType]:
    line = Text(f"{moment(move.at_ms)}  {move.source or '?'} → {move.target}  {move.method or 'restart'}  ")
    line.append(_outcome(move), style=_STYLES[move.outcome])
    times = [f"{spent(move.total_ms)} in all"] if move.total_ms is not None else []
    times += [f"{spent(move.pause_ms)} paused"] if move.pause_ms is not None else []
    line.append(f"  {', '.join(times)}" if times else "")
    reasons = [*move.why, *(f"trouble: {one}" for one in move.trouble)]
    return [line, *(Padding(Text(printable(reason), style="dim"), (0, 0, 0, 4)) for reason in reasons)]


def _outcome(move: PastMove) -> str:
    match move.outcome:
        case MoveOutcome.ARRIVED | MoveOutcome.UNDER_WAY:
            return move.outcome.replace("-", " ")
        case MoveOutcome.ELSEWHERE:
            return f"went to {move.owner} instead"
        case MoveOutcome.RETURNED:
            return f"stayed on {move.owner}"


def spent(duration_ms: int) -> str:
    """Return a duration as people read it."""
    return f"{duration_ms / 1000:.2f} s" if duration_ms < 60_000 else f"{duration_ms // 60_000} min"
