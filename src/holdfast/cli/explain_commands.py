"""`holdfast explain …`."""

from __future__ import annotations

import click

from holdfast.cli.connection import ask
from holdfast.cli.groups import Group
from holdfast.cli.output import json_option, put_json, show
from holdfast.cli.parameters import role_argument
from holdfast.client import requests


@click.group(cls=Group, examples=("holdfast explain role web1",))
def explain() -> None:
    """Explain why a role is where it is."""


@explain.command("role", examples=("holdfast explain role web1",))
@role_argument
@json_option
def role_(*, role: str, as_json: bool) -> None:
    """Explain why the role NAME is where it is, why not on another node, and why it does not run when it does not."""
    answer = ask(requests.explain(role))
    if as_json:
        put_json(answer)
        return
    from holdfast.cli.explanation_page import explanation_page

    show(explanation_page(answer))
