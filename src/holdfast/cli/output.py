"""How an answer leaves: as JSON for programs, or as text for people. Progress and errors never come this way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def as_json_text(answer: object, *, indent: int | None = 2) -> str:
    """Return an answer as JSON; its fields are those of `holdfast.model.status`."""
    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(answer), indent=indent, ensure_ascii=False)


def put_json(answer: object) -> None:
    """Print one JSON document."""
    click.echo(as_json_text(answer))


def put_json_line(answer: object) -> None:
    """Print one item of a stream as a line of JSON, at once."""
    click.echo(as_json_text(answer, indent=None))


def put(answer: object, text: str, *, as_json: bool) -> None:
    """Print an answer: its JSON, or one sentence."""
    click.echo(as_json_text(answer) if as_json else text)


def console(**options: Any) -> Console:
    """Return a console that takes text as it is: names and reasons are no markup. NO_COLOR is honoured by rich."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)


def show(page: RenderableType) -> None:
    """Print a page."""
    console().print(page)
