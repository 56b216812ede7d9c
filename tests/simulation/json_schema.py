"""As much of JSON schema as the schemas of scenarios use: what another program would check a file with.

An unknown keyword is an error, so that nothing of a schema is passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

ABOUT = {"$schema", "$defs", "title", "description", "default", "discriminator"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def faults(schema: dict[str, Any], value: object, root: dict[str, Any] | None = None) -> Iterator[str]:
    """What of a value does not fit its schema."""
    root = schema if root is None else root
    for keyword, wanted in schema.items():
        if keyword not in ABOUT:
            yield from KEYWORDS[keyword](wanted, value, schema, root)


def _ref(wanted: str, value: object, _: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    yield from faults(root["$defs"][wanted.rpartition("/")[2]], value, root)


def _type(wanted: str, value: object, *_: object) -> Iterator[str]:
    if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        yield f"{value!r} is no {wanted}"


def _some(wanted: list[dict[str, Any]], value: object, _: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if not any(not list(faults(one, value, root)) for one in wanted):
        yield f"{value!r} fits none"


def _one(wanted: list[dict[str, Any]], value: object, _: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if (fitting := sum(1 for one in wanted if not list(faults(one, value, root)))) != 1:
        yield f"{value!r} fits {fitting} and not one"


def _properties(wanted: dict[str, Any], value: object, _: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from (f"{key}: {fault}" for fault in (faults(wanted[key], inner, root) if key in wanted else ()))


def _additional(wanted: bool | dict[str, Any], value: object, schema: dict[str, Any], _: object) -> Iterator[str]:
    known = schema.get("properties", {})
    if wanted is False and isinstance(value, dict):
        yield from (f"there is no key {key}" for key in value if key not in known)


def _items(wanted: dict[str, Any], value: object, _: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for inner in value if isinstance(value, list) else ():
        yield from faults(wanted, inner, root)


def _check(kind: type | tuple[type, ...], fits: Callable[[Any, Any], bool]) -> Callable[..., Iterator[str]]:
    def check(wanted: Any, value: object, *_: object) -> Iterator[str]:
        if isinstance(value, kind) and not fits(value, wanted):
            yield f"{value!r} against {wanted!r}"

    return check


KEYWORDS: dict[str, Callable[..., Iterator[str]]] = {
    "$ref": _ref,
    "type": _type,
    "anyOf": _some,
    "oneOf": _one,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "required": _check(dict, lambda value, wanted: set(wanted) <= set(value)),
    "enum": _check(object, lambda value, wanted: value in wanted),
    "const": _check(object, lambda value, wanted: value == wanted),
    "pattern": _check(str, lambda value, wanted: re.search(wanted, value) is not None),
    "minLength": _check(str, lambda value, wanted: len(value) >= wanted),
    "maxLength": _check(str, lambda value, wanted: len(value) <= wanted),
    "minItems": _check(list, lambda value, wanted: len(value) >= wanted),
    "maxItems": _check(list, lambda value, wanted: len(value) <= wanted),
    "minimum": _check((int, float), lambda value, wanted: value >= wanted),
    "maximum": _check((int, float), lambda value, wanted: value <= wanted),
    "exclusiveMinimum": _check((int, float), lambda value, wanted: value > wanted),
}
