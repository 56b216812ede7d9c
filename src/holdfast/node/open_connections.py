"""Ends connections that a machine has open to this one's database, when its certificate is worth nothing any more.

Rule of the file: the database looks at a certificate when a connection begins and never again, so the kernel ends what
is open. What it did not end lives until the member restarts; `ss` passes over it in silence, so what is open is looked
at again afterwards, and every way to fail is said. Source: ss(8), --kill.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from holdfast import programs

log = logging.getLogger(__name__)

CUT_S: Final = 5.0
_STAY: Final = "connections of %s to port %d may stay open until the database restarts: %s"


async def cut(peers: Iterable[str], ports: Iterable[int], *, tool: str = "ss", within_s: float = CUT_S) -> int:
    """End every TCP connection from these addresses to these ports here; returns how many were ended.

    tool      the command that ends and lists connections.
    within_s  how long it may take each time.
    """
    ended = 0
    for peer in peers:
        for port in ports:
            try:
                ended += len(await _connections(tool, peer, port, "--kill", within_s=within_s))
                left = await _connections(tool, peer, port, within_s=within_s)
            except TimeoutError:
                log.warning(_STAY, peer, port, f"{tool} did not answer within {within_s:g} s")
            except OSError as error:
                log.warning(_STAY, peer, port, f"{tool}: {error}")
            else:
                if left:
                    log.warning(_STAY, peer, port, f"the kernel left {len(left)} open: {'; '.join(left)}")
    return ended


async def _connections(tool: str, peer: str, port: int, *options: str, within_s: float) -> list[str]:
    """What the tool lists, a line each: what it ended, or what is there. Raises: OSError with its words."""
    there = ("dst", f"[{peer}]" if ":" in peer else peer, "sport", "=", f":{port}")
    asked = (*options, "--no-header", "--numeric", "--tcp", "state", "established", *there)
    ended = await programs.run(tool, *asked, within_s=within_s)
    if ended.exit_code:
        raise OSError(ended.errors.strip())
    return [" ".join(line.split()) for line in ended.output.splitlines()]
