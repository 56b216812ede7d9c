"""Has libvirt and QEMU here show this node's present certificate, and refuse what the cluster has revoked.

QEMU reads the copies for each guest that it takes in. libvirtd reads them when it starts and when it is told to, so it
is told until it has answered, once after each start of this daemon, too: whoever was killed in between is made good.
Source: virt-admin(1), server-update-tls.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from holdfast import programs
from holdfast.node.libvirt_certificates import PKI, follow_renewal, follow_revocations, is_installed

log = logging.getLogger(__name__)

DAEMONS: Final = (("libvirtd:///system", "libvirtd"), ("virtproxyd:///system", "virtproxyd"))
"""Who may listen for other nodes: the one daemon, or the one of the modular daemons that speaks to the network."""
ANSWER_S: Final = 10.0


class LibvirtCopies:
    """The copies of one node."""

    def __init__(self, own: Path, *, target: Path = PKI, tool: str = "virt-admin", answer_s: float = ANSWER_S) -> None:
        self._own = own
        self._target = target
        self._tool = tool
        self._answer_s = answer_s
        self._is_told = False
        self._trouble = ""

    async def follow(self) -> None:
        """Do what is to be done now; nothing where libvirt has no certificate of the cluster.

        Raises: CertificateInvalid, FileNotWritten, OSError (a file that is there and cannot be read).
        """
        if await asyncio.to_thread(self._write):
            self._is_told = False
        if not self._is_told and await asyncio.to_thread(is_installed, self._own, self._target):
            self._is_told = await self._tell()

    def _write(self) -> tuple[Path, ...]:
        return (*follow_renewal(self._own, self._target), *follow_revocations(self._own, self._target))

    async def _tell(self) -> bool:
        """Have libvirt read the copies; trouble is logged once."""
        troubles = []
        for uri, server in DAEMONS:
            if (trouble := await self._ask(uri, server)) is None:
                self._trouble = ""
                return True
            troubles.append(f"{server}: {trouble}")
        trouble = "; ".join(troubles)
        if trouble != self._trouble:
            log.warning(
                "libvirt here keeps to the certificates that it knows until it is told or restarted: %s", trouble
            )
        self._trouble = trouble
        return False

    async def _ask(self, uri: str, server: str) -> str | None:
        """Why it does not read them; None: it has."""
        asked = ("--connect", uri, "server-update-tls", server)
        try:
            ended = await programs.run(self._tool, *asked, within_s=self._answer_s)
        except TimeoutError:
            return f"no answer within {self._answer_s:g} s"
        except OSError as error:
            return f"{self._tool} cannot be run: {error}"
        return ended.words if ended.exit_code else None
