"""Asking the datacenter: one JSON line there, one back, over its control socket.

Rule of the file: an error of the datacenter arrives as the same class that was raised there.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from holdfast.lab.errors import ERRORS_BY_CODE, LabBroken, LabNotRunning
from holdfast.model.errors import HoldfastError

LINE_LIMIT = 1 << 20


def encode_error(error: HoldfastError) -> dict[str, Any]:
    """Return the answer that carries an error."""
    return {"ok": False, "code": error.code, "message": error.message, "hint": error.hint}


async def ask(control_socket: Path, request: dict[str, Any], *, timeout_s: float = 60.0) -> dict[str, Any]:
    """Return the datacenter's answer. Raises: LabNotRunning, LabBroken, and whatever the datacenter raised."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(control_socket), limit=LINE_LIMIT)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
    except (FileNotFoundError, ConnectionError) as error:
        raise LabNotRunning(
            f"no datacenter answers at {control_socket}", hint="bring the lab up with `holdfast lab up`"
        ) from error
    except TimeoutError as error:
        raise LabBroken(f"the datacenter did not answer {request['do']!r} within {timeout_s:g} s") from error
    if not line:
        raise LabBroken(f"the datacenter ended while it did {request['do']!r}")
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        kind = ERRORS_BY_CODE.get(answer["code"], LabBroken)
        raise kind(answer["message"], hint=answer["hint"])
    return answer
