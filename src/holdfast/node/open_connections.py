"""Ends connections that a machine has open to this one's database, when its certificate is worth nothing any more.

Rule of the file: the database looks at a certificate when a connection begins and never again, so the kernel ends what
is open. One that cannot leaves them open until the member restarts, and that is said. Source: ss(8), --kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

log = logging.getLogger(__name__)

CUT_S: Final = 5.0


async def cut(peers: Iterable[str], ports: Iterable[int]) -> int:
    """End every TCP connection from these addresses to these ports here; returns how many were ended."""
    ended = 0
    for peer in peers:
        for port in ports:
            ended += await _cut(peer, port)
    return ended


async def _cut(peer: str, port: int) -> int:
    wanted = ("--kill", "--no-header", "--numeric", "--tcp", "state", "established")
    try:
        child = await asyncio.create_subprocess_exec(
            "ss",
            *(*wanted, "dst", f"[{peer}]" if ":" in peer else peer, "sport", "=", f":{port}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        log.warning("connections of %s to port %d stay open until the database restarts: ss: %s", peer, port, error)
        return 0
    try:
        async with asyncio.timeout(CUT_S):
            told, problems = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return 0
    if child.returncode:
        why = problems.decode(errors="replace").strip()
        log.warning("connections of %s to port %d stay open until the database restarts: %s", peer, port, why)
    return len(told.splitlines())
