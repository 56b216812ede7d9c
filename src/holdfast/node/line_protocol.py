"""One request per connection, as lines of JSON: what the local socket and the join port speak.

    → {"method": "vm.start", "params": {...}}
    ← {"item": ...}            any number: progress, or a stream
    ← {"result": ...}          or {"error": {"code", "message", "hint", "retryable"}}

Rule of the file: a handler's HoldfastError becomes an answer; anything else is a bug, logged and answered as such.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from holdfast.model.errors import HoldfastError, InvalidInput

log = logging.getLogger(__name__)

LINE_BYTES: Final = 4 * 1024 * 1024
REQUEST_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """The last thing that a handler yields; everything before are items."""

    value: object


Handler = Callable[[str, dict[str, Any]], AsyncGenerator[object, None]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Serve one connection to its end."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            line = await reader.readline()
        if line:
            await _respond(line, reader, writer, handler)
    except (ConnectionError, TimeoutError, ValueError) as error:
        log.debug("connection ended: %s", error)
    finally:
        writer.close()


async def _respond(line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Run the handler until it ends or the client goes away."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(_serve(line, writer, handler))
        leaving = tasks.create_task(reader.read(1))
        await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        leaving.cancel()


async def _serve(line: bytes, writer: asyncio.StreamWriter, handler: Handler) -> None:
    try:
        method, params = _parse(line)
        async with aclosing(handler(method, params)) as items:
            async for item in items:
                if isinstance(item, Result):
                    await _send(writer, {"result": item.value})
                    return
                await _send(writer, {"item": item})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        await _send(writer, {"error": _described(InvalidInput(f"the request is not valid: {faults}"))})
    except HoldfastError as error:
        await _send(writer, {"error": _described(error)})
    except ConnectionError:
        raise
    except Exception as error:  # the supervisor's boundary: a bug in one request must not end the daemon
        log.exception("request failed")
        bug = HoldfastError(f"internal error: {error!r}", hint="see the log of holdfastd; please report this")
        await _send(writer, {"error": _described(bug)})


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
        method, params = request["method"], request.get("params") or {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"not a request: {line[:80]!r}", hint="use the holdfast command") from error
    if not isinstance(method, str) or not isinstance(params, dict):
        raise InvalidInput(f"not a request: {line[:80]!r}", hint="use the holdfast command")
    return method, params


def _described(error: HoldfastError) -> dict[str, object]:
    """An error as the client reads it; `kind` is the branch of the tree that it can count on."""
    branches = (branch for branch in type(error).__mro__ if issubclass(branch, HoldfastError))
    kind = next(branch.code for branch in branches if branch.__module__ == HoldfastError.__module__)
    return {
        "code": error.code,
        "kind": kind,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
    }


async def _send(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
    writer.write(json.dumps(to_jsonable_python(message), separators=(",", ":")).encode() + b"\n")
    await writer.drain()
