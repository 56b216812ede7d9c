"""How values are spelt in a scenario: durations, sizes, names, and the base of all its parts.

Rule of the file: a value is read here once; everywhere else durations are seconds and sizes are bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SECONDS_OF: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
BYTES_OF: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
LONGEST_S: Final = 365 * 86_400
DURATION: Final = r"^[0-9]+(\.[0-9]+)? ?(ms|s|min|h)$"
SIGNED_DURATION: Final = r"^-?[0-9]+(\.[0-9]+)? ?(ms|s|min|h)$"
SIZE: Final = r"^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB)$"
NAME: Final = r"^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$"


ALL: Final = "all"


class Part(BaseModel):
    """A mapping of a scenario file. Its keys are written with hyphens; an unknown one is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
        use_attribute_docstrings=True,
    )


def read_duration(value: object) -> object:
    """Seconds, from a number or from a text such as "12.5s". Raises: ValueError."""
    return _scaled(value, SIGNED_DURATION, SECONDS_OF, "a number of seconds, or a duration such as 250ms, 12.5s, 3min")


def read_size(value: object) -> object:
    """Bytes, from a number or from a text such as "8 GiB". Raises: ValueError."""
    size = _scaled(value, SIZE, BYTES_OF, "a number of bytes, or a size such as 512 MiB or 8 GiB")
    return round(size) if isinstance(size, float) else size


def read_moment(value: object) -> object:
    """Seconds as `read_duration`, or None for the end. Raises: ValueError."""
    return None if value == "end" else read_duration(value)


def read_names(value: object) -> object:
    """One name stands for a list of one. Raises: ValueError."""
    if not isinstance(value, str | list | tuple):
        raise ValueError("wanted a name, or a list of names")
    return (value,) if isinstance(value, str) else tuple(value)


def meant(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The names that are meant: `all` stands for all that are known."""
    return [one for name in names for one in (known if name == ALL else (name,))]


def read_as(key: str, short: Any, full: type[Part]) -> BeforeValidator:
    """A short form: what is no mapping is the value of `key`, of the type `short`."""
    return BeforeValidator(
        lambda value: value if isinstance(value, Mapping) else {key: value}, json_schema_input_type=short | full
    )


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("wanted at least one name")
    return value


def _in_range(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= LONGEST_S:
        raise ValueError("wanted a time between 0 and a year")
    return value


def _positive(value: int) -> int:
    if value <= 0:
        raise ValueError("wanted more than 0 bytes")
    return value


def _scaled(value: object, pattern: str, units: Mapping[str, float], wanted: str) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"wanted {wanted}")
    if not isinstance(value, str):
        return value
    if not re.fullmatch(pattern, value):
        raise ValueError(f"wanted {wanted}")
    number, unit = re.split(r" ?(?=[A-Za-z])", value, maxsplit=1)
    return float(number) * units[unit]


Duration = Annotated[
    float,
    BeforeValidator(
        read_duration,
        json_schema_input_type=Annotated[float, Field(ge=0, le=LONGEST_S)] | Annotated[str, Field(pattern=DURATION)],
    ),
    AfterValidator(_in_range),
]
"""Seconds."""

Moment = Annotated[
    float | None,
    BeforeValidator(
        read_moment,
        json_schema_input_type=Annotated[float, Field(ge=0, le=LONGEST_S)]
        | Annotated[str, Field(pattern=f"^end$|{DURATION}")],
    ),
    AfterValidator(_in_range),
]
"""Seconds, or None for the end."""

SignedDuration = Annotated[
    float, BeforeValidator(read_duration, json_schema_input_type=float | Annotated[str, Field(pattern=SIGNED_DURATION)])
]

Size = Annotated[
    int,
    BeforeValidator(
        read_size, json_schema_input_type=Annotated[int, Field(gt=0)] | Annotated[str, Field(pattern=SIZE)]
    ),
    AfterValidator(_positive),
]
"""Bytes."""

Name = Annotated[str, Field(pattern=NAME, max_length=64)]

NameList = Annotated[list[Name], Field(min_length=1)]

Names = Annotated[
    tuple[Name, ...], BeforeValidator(read_names, json_schema_input_type=Name | NameList), AfterValidator(_not_empty)
]
"""Of nodes, roles or networks: one, a list, or `all`."""

MaybeNames = Annotated[tuple[Name, ...], BeforeValidator(read_names, json_schema_input_type=Name | list[Name])]
"""The same, or an empty list."""
