"""Settings as people name them: `timings.patience_ms=8000`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from holdfast.model.errors import InvalidInput
from holdfast.model.settings import Settings

_ADAPTER = TypeAdapter(Settings)


def changed_settings(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings with some changed by their dotted names. Raises: InvalidInput naming every wrong one."""
    values = asdict(settings)
    for name, value in changes.items():
        if name not in flat_settings(settings):
            raise InvalidInput(
                f"there is no setting {name!r}", hint=f"settings are: {', '.join(sorted(flat_settings(settings)))}"
            )
        group, _, last = name.rpartition(".")
        (values[group] if group else values)[last] = _read(value)
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise InvalidInput(
            f"the settings are not valid: {faults}", hint='numbers as 8000, lists as ["/srv/a", "/srv/b"]'
        ) from error


def flat_settings(settings: Settings) -> dict[str, object]:
    """All settings by their dotted names."""
    flat: dict[str, object] = {}
    for name, value in asdict(settings).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return flat


def _read(value: object) -> object:
    """A value typed on a command line: JSON where it is JSON, else text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
