"""A lab with libvirt and no cluster, for the tests of the lab itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from holdfast.lab.construction import LabOptions
from holdfast.lab.lab import Lab


def lab_name(purpose: str) -> str:
    """Return a name that no other run of the tests on this machine uses (at most 16 characters)."""
    return f"{purpose[:8]}-{os.getpid():x}"


@contextmanager
def bare_lab(purpose: str, options: LabOptions | None = None) -> Iterator[Lab]:
    """Bring a lab up for the body, and take it down whatever happens."""
    lab = Lab(lab_name(purpose))
    try:
        asyncio.run(lab.up(options))
        yield lab
    finally:
        asyncio.run(lab.down())


async def wait_until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 60.0) -> None:
    """Return when the condition holds. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - what happens in a lab tells nobody
            await asyncio.sleep(0.02)
