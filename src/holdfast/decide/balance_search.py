"""The search for the fewest guests whose moves bring nodes within a limit of each other.

Rule of the file: a best-first search that is exact as long as it stays below `STATES_AT_MOST`; beyond that, one step
after the other, each of which evens the loads. What may go where is asked from outside. Property tests compare it with
trying everything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from holdfast.decide.loads import Amount, load, moves_at_least, spread

STATES_AT_MOST: Final = 4000
"""About 0.1 s of one core."""

Step = tuple[int, int]
"""A piece and the place that it goes to, by their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What moves as one: how many guests that is, what they take, and where they are.

    twin_of   pieces with an equal value here can stand in for each other; None: nothing can stand in for it.
    """

    guests: int
    takes: Amount
    place: int
    twin_of: Hashable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Places, and pieces that stand on them.

    rooms, taken   per place what it has and what is taken of it.
    limit          how far apart loads may be, in hundredths of a percent.
    allows         whether a step may follow on the steps given.
    """

    rooms: tuple[Amount, ...]
    taken: tuple[Amount, ...]
    pieces: tuple[Piece, ...]
    limit: int
    allows: Callable[[Sequence[Step], Step], bool]

    def loads(self, taken: Sequence[Amount]) -> tuple[int, ...]:
        """How full each place is."""
        return tuple(load(one, room) for one, room in zip(taken, self.rooms, strict=True))

    def after(self, taken: tuple[Amount, ...], step: Step) -> tuple[Amount, ...]:
        """What is taken once a piece that has not moved before has made its step."""
        piece, to = self.pieces[step[0]], step[1]
        changed = list(taken)
        changed[piece.place] = changed[piece.place].minus(piece.takes)
        changed[to] = changed[to].plus(piece.takes)
        return tuple(changed)


def steps_to_balance(board: Board) -> tuple[Step, ...]:
    """Return the steps, in an order in which each is allowed; none when there are none that help."""
    if spread(board.loads(board.taken)) <= board.limit:
        return ()
    exact = _fewest(board)
    return exact if exact is not None else _one_by_one(board)


def _fewest(board: Board) -> tuple[Step, ...] | None:
    """The steps that move the fewest guests, of those the least memory; None: there are none, or the search ended."""
    twins = _twins(board.pieces)
    first = moves_at_least(board.loads(board.taken), board.limit)
    frontier: list[tuple[int, int, tuple[Step, ...], int, tuple[Amount, ...]]] = [(first, 0, (), 0, board.taken)]
    seen: set[frozenset[Step]] = set()
    states = 0
    while frontier:
        _, memory_bytes, steps, guests, taken = heappop(frontier)
        state = frozenset(steps)
        if state in seen or (steps and not board.allows(steps[:-1], steps[-1])):
            continue
        seen.add(state)
        if spread(board.loads(taken)) <= board.limit:
            return steps
        for step in _next(board, steps, twins):
            states += 1
            if states > STATES_AT_MOST:
                return None
            piece, left = board.pieces[step[0]], board.after(taken, step)
            cost = guests + piece.guests
            at_least = cost + moves_at_least(board.loads(left), board.limit)
            moved_bytes = memory_bytes + piece.takes.memory_bytes
            heappush(frontier, (at_least, moved_bytes, (*steps, step), cost, left))
    return None


def _next(board: Board, steps: tuple[Step, ...], twins: Sequence[int | None]) -> Iterator[Step]:
    """What may come next: each piece moves once, and of twins on one place the first goes first."""
    moved = {piece for piece, _ in steps}
    for number, piece in enumerate(board.pieces):
        twin = twins[number]
        if number in moved or (twin is not None and twin not in moved):
            continue
        yield from ((number, place) for place in range(len(board.rooms)) if place != piece.place)


def _twins(pieces: Sequence[Piece]) -> list[int | None]:
    """Per piece, the last one before it that can stand in for it."""
    latest: dict[tuple[int, Hashable], int] = {}
    found: list[int | None] = []
    for number, piece in enumerate(pieces):
        if piece.twin_of is None:
            found.append(None)
            continue
        key = (piece.place, piece.twin_of)
        found.append(latest.get(key))
        latest[key] = number
    return found


def _one_by_one(board: Board) -> tuple[Step, ...]:
    """Step by step what evens the loads most, up to the last step that brought them nearer; each does, so it ends."""
    steps: list[Step] = []
    taken, nearest, worth = board.taken, spread(board.loads(board.taken)), 0
    while nearest > board.limit and (step := _best_step(board, steps, taken)) is not None:
        steps.append(step)
        taken = board.after(taken, step)
        if (now := spread(board.loads(taken))) < nearest:
            nearest, worth = now, len(steps)
    return tuple(steps[:worth])


def _best_step(board: Board, steps: Sequence[Step], taken: tuple[Amount, ...]) -> Step | None:
    """Only a step from the fullest place or to the emptiest one can bring them nearer."""
    loads = board.loads(taken)
    before = _unevenness(loads)
    moved = {piece for piece, _ in steps}
    candidates = []
    for number, piece in enumerate(board.pieces):
        if number in moved:
            continue
        for place in range(len(board.rooms)):
            helps = loads[piece.place] == max(loads) or loads[place] == min(loads)
            if place == piece.place or not helps:
                continue
            after = _unevenness(board.loads(board.after(taken, (number, place))))
            if after < before:
                candidates.append((after, piece.takes.memory_bytes, (number, place)))
    return next((step for _, _, step in sorted(candidates) if board.allows(steps, step)), None)


def _unevenness(loads: Sequence[int]) -> tuple[int, int]:
    """What every step has to make smaller: the spread, or how uneven the loads are within it."""
    return spread(loads), sum(one * one for one in loads)
