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

    revocations   the authority's list (DER) of whom a member refuses; None: everybody with a certificate gets in.
    """

    authority: Path
    certificate: Path
    key: Path
    revocations: Path | None = None

    def client_context(self) -> ssl.SSLContext:
        """Return what a connection to a member needs. Raises: InvalidInput when a file is missing or malformed."""
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.authority))
        except OSError as error:  # ssl.SSLError is one
            raise self._unusable(error) from error
        self.load_into(context)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a context show the certificate that the file has now. Raises: InvalidInput."""
        try:
            context.load_cert_chain(str(self.certificate), str(self.key))
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> InvalidInput:
        return InvalidInput(
            f"the TLS files {self.authority}, {self.certificate} and {self.key} cannot be used: {error}",
            hint="check that the three PEM files exist, are readable and belong together",
        )
