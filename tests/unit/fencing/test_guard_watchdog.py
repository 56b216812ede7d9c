"""The watchdog device: opened by the first pet, petted, switched off only by order."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.fencing.guard.watchdog import Watchdog


def test_a_fifo_plays_the_device(tmp_path: Path) -> None:
    path = tmp_path / "watchdog"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    watchdog = Watchdog(path, 7)
    assert watchdog.describe() == {"device": str(path), "timeout_s": 7, "error": "not opened yet"}
    watchdog.pet()
    assert watchdog.describe() == {"device": str(path), "timeout_s": 7, "error": ""}
    watchdog.pet()
    assert os.read(reader, 10) == b"\n\n"
    watchdog.disarm()
    assert os.read(reader, 10) == b"V"
    os.close(reader)


def test_a_missing_device_is_said_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "watchdog"
    watchdog = Watchdog(path, 7)
    watchdog.pet()
    assert "No such file" in watchdog.error
    os.mkfifo(path)
    watchdog.pet()
    assert watchdog.error == ""
