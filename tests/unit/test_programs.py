"""Whatever a program does, its run ends in time and is told truly."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from holdfast import programs


async def python(
    script: str, within_s: float = 10, told: str | None = None, *, is_merged: bool = False
) -> programs.Ended:
    return await programs.run(sys.executable, "-c", script, within_s=within_s, told=told, is_merged=is_merged)


async def test_what_it_prints_and_how_it_ends_is_told() -> None:
    ended = await python("import sys; print('out'); sys.exit('it\\n failed')")
    assert ended == programs.Ended(exit_code=1, output="out\n", errors="it\n failed\n")
    assert (ended.words, (await python("print('all  well')")).words) == ("it failed", "all well")


async def test_errors_come_in_the_output_where_that_is_wanted() -> None:
    script = "import sys; print('a', flush=True); print('b', file=sys.stderr, flush=True); print('c')"
    assert await python(script, is_merged=True) == programs.Ended(exit_code=0, output="a\nb\nc\n", errors="")


async def test_it_reads_what_it_is_told_and_need_not() -> None:
    assert (await python("print(input())", told="secret")).output == "secret\n"
    assert (await python("print('done')", told="x" * 1_000_000)).output == "done\n"
    assert (await python("import sys; print(len(sys.stdin.read()))")).output == "0\n"


async def test_of_a_flood_a_megabyte_is_kept() -> None:
    ended = await python("import sys; sys.stdout.write('x' * 3_000_000)")
    assert (ended.exit_code, len(ended.output)) == (0, 1 << 20)


@pytest.mark.parametrize("then", ["time.sleep(60)", "pass"], ids=["it hangs", "its child keeps the output open"])
async def test_who_does_not_end_in_time_is_ended_with_its_children(tmp_path: Path, then: str) -> None:
    child = tmp_path / "child"
    script = (
        "import pathlib, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; "
        f"time.sleep(60)']); pathlib.Path({str(child)!r}).write_text(str(child.pid)); {then}"
    )
    with pytest.raises(TimeoutError):
        await python(script, within_s=1.5)
    await asyncio.sleep(0.2)
    assert not _runs(int(child.read_text()))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_what_cannot_be_started_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await programs.run(str(tmp_path / "none"), within_s=1)
