"""What runs on the witness of a lab.

Rule of the file: what holdfast-witness.service would run, and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.lab.spec import Service

WITNESS_SERVICE = "holdfast-witness"
WITNESS_FOLDER = "/var/lib/holdfast-witness"


def witness_service() -> Service:
    """Return the service. It runs from the first boot on, and finds its cluster when the machine has joined one."""
    program = str(Path(sys.executable).parent / "holdfast")
    return Service(name=WITNESS_SERVICE, command=(program, "witness", "run"), nice=-10, restart_delay_ms=500)
