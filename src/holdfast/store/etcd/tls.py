"""Both ends of every connection prove who they are by a certificate of the cluster's own authority.

There is no plaintext mode. Source: DESIGN section 3.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from holdfast.model.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the authority, and this node's certificate (server and client use) with its key.

    The certificate names every address that others reach this node's member at, and 127.0.0.1.
    """

    authority: Path
    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        """Return what a connection to a member needs. Raises: InvalidInput when a file is missing or malformed."""
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.authority))
            context.load_cert_chain(str(self.certificate), str(self.key))
        except OSError as error:  # ssl.SSLError is one
            raise InvalidInput(
                f"the TLS files {self.authority}, {self.certificate} and {self.key} cannot be used: {error}",
                hint="check that the three PEM files exist, are readable and belong together",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        return context
