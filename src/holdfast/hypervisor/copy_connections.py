"""Ends the connection over which a guest is copied, when nothing else makes QEMU give the copy up.

QEMU sends the end of a copy while it holds the lock that its monitor needs. If the other end is gone by then, without a
word, it waits for the network as long as TCP does, a quarter of an hour, with the guest stopped, and libvirt can abort
nothing. An error on that connection is a failed copy, after which the guest goes on here.
Source: QEMU migration/migration.c (migration_completion), tcp(7) (tcp_retries2), ss(8) (--kill).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

log = logging.getLogger(__name__)

FIRST_PORT, LAST_PORT = 49152, 49215
"""Where libvirt has QEMU listen for copies. Source: /etc/libvirt/qemu.conf, migration_port_min and _max."""
CUT_S: Final = 5.0


async def end_copies_to(host: str, *, tool: str = "ss") -> None:
    """End every connection from here to where copies are taken in on a host. What fails is logged."""
    ports = ("dport", "ge", f":{FIRST_PORT}", "and", "dport", "le", f":{LAST_PORT}")
    child = await asyncio.create_subprocess_exec(
        *(tool, "--kill", "--no-header", "--numeric", "--tcp", "state", "established", "dst", host, "and", *ports),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CUT_S):
            told, problems = await child.communicate()
    except (TimeoutError, asyncio.CancelledError) as error:
        child.kill()
        await child.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        log.warning("copies to %s go on: %s did not answer within %g s", host, tool, CUT_S)
        return
    words = (told if not child.returncode else problems).decode(errors="replace").split()
    log.warning("ending the connections of copies to %s: %s", host, " ".join(words) or "there is none")
