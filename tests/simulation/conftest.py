"""How long a simulation may take: virtual time bounds each by itself; real time only ends one that hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_TIME_S = 900
"""The longest takes forty seconds of a core to itself; other work on the machine makes that minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(REAL_TIME_S))
