"""The reservation benchmark runs to its end and keeps the form of all benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from holdfast.lab.bench.reservation import reservation


def test_one_run_measures_everything(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    result = CliRunner().invoke(reservation, ["--runs", "1", "--json", str(path)])
    assert result.exit_code == 0, result.output
    document = json.loads(path.read_text())
    assert (document["benchmark"], document["runs"], document["failed_runs"]) == ("reservation", 1, 0)
    assert sorted(document["measures"]) == [
        "expel_16_luns_ms",
        "expel_16_luns_ms.writing",
        "look_16_luns_ms",
        "protect_16_luns_ms",
        "write_us.protected",
        "write_us.unprotected",
    ]
    assert set(document["measures"]["expel_16_luns_ms"]) == {"median", "min", "max", "all"}
