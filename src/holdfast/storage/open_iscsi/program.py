"""The programs of open-iscsi and the kernel's own tools, by name: where they are, and how one ended."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Final

from holdfast import programs
from holdfast.storage.errors import InitiatorMissing

_FOLDERS: Final = "/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `exit_code` None: not within its deadline, so nobody knows what it did."""

    exit_code: int | None
    output: str = ""


async def run_program(program: str, *arguments: str, package: str, timeout_ms: int) -> Ended:
    """Run a program. Raises InitiatorMissing when it cannot be started; `package` has it."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_FOLDERS}")
    if path is None:
        raise InitiatorMissing(f"{program} is not installed on this node", hint=f"install {package}")
    try:
        ended = await programs.run(path, *arguments, within_s=timeout_ms / 1000, is_merged=True)
    except TimeoutError:
        return Ended(exit_code=None)
    except OSError as error:
        raise InitiatorMissing(f"{path} cannot be run: {error.strerror}", hint=f"install {package} anew") from error
    return Ended(exit_code=ended.exit_code, output=ended.output)
