"""What the lab's tests take for a disturbance of the machine."""

from __future__ import annotations

import os
import subprocess

from tests.lab.stillness import STILL_S, Stillness


def test_standing_still_is_noticed() -> None:
    """This process is stopped for a while, as a virtual machine is whose host has other work."""
    stop = f"kill -STOP {os.getpid()}; sleep {2 * STILL_S}; kill -CONT {os.getpid()}"
    with Stillness() as stillness:
        subprocess.run(["sh", "-c", stop], check=True)
    assert stillness.longest_s >= STILL_S
    assert stillness.is_disturbing
    assert "stood still for" in str(stillness)
