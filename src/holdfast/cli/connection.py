"""How a command asks the daemon: with progress on stderr while it takes long, and never in its output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from holdfast.cli.words import printable, transfer_words
from holdfast.client.blocking import BlockingClient
from holdfast.client.requests import Request, Stream
from holdfast.model.status import Progress as Step

if TYPE_CHECKING:
    from rich.progress import Progress

A = TypeVar("A")


def ask(request: Request[A], *, on_step: Callable[[Step], None] | None = None) -> A:
    """Ask and return the answer; steps of the daemon appear on stderr as they come. Raises: HoldfastError.

    on_step   takes the steps instead.
    """
    with Waiting() as waiting:
        try:
            return _client().call(request, on_progress=on_step or waiting.step, on_waiting=waiting.spin)
        except KeyboardInterrupt:
            waiting.stop()
            if request.changes:
                click.echo("interrupted: what was asked may still be done; look: holdfast status", err=True)
            raise


def follow(stream: Stream[A]) -> Iterator[A]:
    """Ask and yield items until Ctrl-C, which is how a person ends it. Raises: HoldfastError."""
    return _client().follow(stream)


def _client() -> BlockingClient:
    socket = click.get_current_context().find_root().obj
    assert socket is None or isinstance(socket, Path), "the root command keeps the socket's path"
    return BlockingClient(socket)


class Waiting:
    """What a person sees on stderr while waiting: lines of progress, and below them on a terminal a spinner."""

    def __init__(self) -> None:
        self._spinner: Progress | None = None
        self._told: tuple[str, int] | None = None

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def step(self, step: Step) -> None:
        """Show a step of the daemon.

        How far memory has come is told in place on a terminal, else every ten percent.
        """
        if step.transfer is not None and sys.stderr.isatty():
            self.spin()
            self._tell(f"{step.text}: {transfer_words(step.transfer)}")
            return
        if step.transfer is not None:
            tenth = step.text, step.transfer.percent // 10
            if tenth == self._told:
                return
            self._told = tenth
        self.stop()
        text = step.text if step.transfer is None else f"{step.text}: {transfer_words(step.transfer)}"
        click.echo(printable(text), err=True)

    def _tell(self, text: str) -> None:
        assert self._spinner is not None
        self._spinner.update(self._spinner.task_ids[0], description=printable(text, one_line=True))

    def spin(self) -> None:
        """Show that time passes, once it has taken a second; only a terminal can show that."""
        if self._spinner is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = SpinnerColumn("line"), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
            self._spinner = Progress(*columns, console=Console(stderr=True), transient=True)
            self._spinner.add_task("")
            self._spinner.start()

    def stop(self) -> None:
        """Take the spinner away."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
