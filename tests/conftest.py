"""Order of the tests: quick and exact ones first, so that a broken table is seen before a lab is built."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LAYERS = ("unit", "property", "scenario", "simulation", "contract", "lab")


def layer_of(item: pytest.Item) -> str:
    """Return the folder directly below `tests` that holds the test."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives in `tests/lab` and run the layers in their order; a folder of no known layer is an error."""
    for item in items:
        layer = layer_of(item)
        if layer not in LAYERS:
            raise pytest.UsageError(f"{item.path}: tests live in one of {', '.join(LAYERS)}, not in {layer!r}")
        if layer == "lab":
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: LAYERS.index(layer_of(item)))
