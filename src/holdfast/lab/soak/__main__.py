"""The entrance to the soak: `./dev soak storage` plays random schedules of storage failures."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AbstractAsyncContextManager

import click

from holdfast.lab.soak.breakages import BREAKAGES
from holdfast.lab.soak.campaign import OpenWorld, Tally, soak
from holdfast.lab.soak.full_world import full_world
from holdfast.lab.soak.light_world import light_world
from holdfast.lab.soak.play import Played, World
from holdfast.lab.soak.schedule import Act, draw
from holdfast.model.errors import HoldfastError

WORLDS = 4
TELL_EVERY = 20


@click.group(name="./dev soak")
def entrance() -> None:
    """Random failures, for as long as you like."""


@entrance.command(epilog="Example: ./dev soak storage --schedules 1000 --minutes 30")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The first schedule's seed.")
@click.option("--schedules", default=100, show_default=True, type=click.IntRange(1), help="How many schedules.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no other schedule after so long.")
@click.option("--worlds", type=click.IntRange(1, 64), help=f"Clusters side by side.  [default: {WORLDS}; 1 with --lab]")
@click.option("--lab", is_flag=True, help="Play them in a lab, with QEMU, libvirt and a database on the nodes.")
@click.option("--name", default="soak", show_default=True, help="Name of the lab, which is built anew.")
@click.option("--break", "breakage", type=click.Choice(list(BREAKAGES)), help="Make this mistake: it must be found.")
def storage(
    *, seed: int, schedules: int, minutes: float | None, worlds: int | None, lab: bool, name: str, breakage: str | None
) -> None:
    """Play random schedules of storage failures, and judge by the blocks of the disks. Stops at the first fault."""
    if lab and (breakage or (worlds or 1) > 1):
        raise click.UsageError("--lab plays in one lab, and has no mistakes to make")

    def opened() -> AbstractAsyncContextManager[World]:
        return full_world(name) if lab else light_world(breakage=breakage or "")

    try:
        tally = asyncio.run(
            _soak(opened, seed, schedules, minutes, worlds or (1 if lab else WORLDS), has_traps=not lab)
        )
    except* HoldfastError as errors:
        sys.exit(f"error: {_first(errors)}")
    except* (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    replay = "" if not lab else " --lab"
    replay += f" --break {breakage}" if breakage else ""
    _conclude(tally, replay)


async def _soak(
    opened: OpenWorld, seed: int, schedules: int, minutes: float | None, worlds: int, *, has_traps: bool
) -> Tally:
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    loop.add_signal_handler(signal.SIGTERM, main.cancel)  # so that all that was made is removed
    began_at = loop.time()

    def tell(tally: Tally, played: Played) -> None:
        if tally.played % TELL_EVERY == 0 or worlds == 1:
            pace = tally.played / (loop.time() - began_at)
            print(f"{tally.played} schedules, {pace:.2f}/s; seed {played.schedule.seed}: {played.schedule}", flush=True)

    until = None if minutes is None else began_at + 60 * minutes
    todo = (draw(seed + number, has_traps=has_traps) for number in range(schedules))
    tally = await soak(todo, opened, worlds=worlds, until=until, tell=tell)
    took_s = loop.time() - began_at
    print(f"{tally.played} schedules in {took_s:.0f} s: {', '.join(_counted(tally))}")
    return tally


def _first(errors: BaseExceptionGroup[HoldfastError]) -> HoldfastError:
    """The first of them, however deep it lies."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _counted(tally: Tally) -> list[str]:
    return [f"{tally.acts[act]} {act}" for act in Act if act in tally.acts]


def _conclude(tally: Tally, replay: str) -> None:
    failed = tally.failed
    if failed is None:
        print("no fault")
        return
    print("\n".join(failed.lines))
    print(f"\nseed {failed.schedule.seed}: {failed.schedule}")
    for fault in failed.faults:
        print(f"FAULT {fault}")
    print(f"play it again: ./dev soak storage --seed {failed.schedule.seed} --schedules 1{replay}")
    sys.exit(1)


if __name__ == "__main__":
    entrance(prog_name="./dev soak")
