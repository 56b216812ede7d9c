"""Ends the connections over which a guest is copied, when nothing else makes libvirt or QEMU give the copy up.

QEMU sends the end of a copy while it holds the lock that its monitor needs. If the other end is gone by then, without a
word, it waits for the network as long as TCP does, a quarter of an hour, with the guest stopped, and libvirt can abort
nothing. libvirt itself waits half a minute for an answer from there. An error on such a connection is a failed copy,
after which libvirt looks what is here, and the guest goes on if it is: its copy stays paused until its node owns it.
Source: QEMU migration/migration.c (migration_completion), tcp(7) (tcp_retries2), ss(8) (--kill).
"""

from __future__ import annotations

import logging
from typing import Final

from holdfast import programs

log = logging.getLogger(__name__)

FIRST_PORT: Final = 49152
LAST_PORT: Final = 49215
"""Where libvirt has QEMU listen for copies. Source: /etc/libvirt/qemu.conf, migration_port_min and _max."""
LIBVIRT_PORT: Final = 16514
"""Where libvirt itself listens. Source: libvirtd.conf, tls_port."""
FIRST_OUTGOING_PORT: Final = 32768
"""Below it services listen: what comes from there is an answer, and no copy. Source: ip(7), ip_local_port_range."""
CUT_S: Final = 5.0


async def end_copies_to(host: str, *, tool: str = "ss", limit_s: float = CUT_S) -> None:
    """End every connection from here to where a host takes guests in. What fails is logged."""
    there = f"( dport = :{LIBVIRT_PORT} or ( dport ge :{FIRST_PORT} and dport le :{LAST_PORT} ) )"
    wanted = f"state connected dst {host} and sport ge :{FIRST_OUTGOING_PORT} and {there}"
    try:
        ended = await programs.run(
            tool, "--kill", "--no-header", "--numeric", "--tcp", *wanted.split(), within_s=limit_s
        )
    except TimeoutError:
        log.warning("copies to %s go on: %s did not answer within %g s", host, tool, limit_s)
    except OSError as error:
        log.warning("copies to %s go on: %s cannot be run: %s", host, tool, error)
    else:
        log.warning("ending the connections of copies to %s: %s", host, ended.words or "there is none")
