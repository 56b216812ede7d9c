"""What every benchmark reports: measures with all their values, the machine, and the runs that failed.

Rule of the file: the JSON is a contract that all benchmarks of the project keep; a failed run adds no values, and is
always counted. Names end in their unit (`power_cut_to_qemu_ms`), a variant follows after a dot (`….leader`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a measure should be at most, in its own unit; without limits it is shown to compare with.

    Source: DESIGN section 14.
    """

    measure: str
    title: str
    median: float | None = None
    worst: float | None = None

    def verdict_on(self, values: list[float]) -> str:
        """Whether these values keep it, in a word."""
        reached = ((statistics.median(values), self.median), (max(values), self.worst))
        limited = [(value, limit) for value, limit in reached if limit is not None]
        if not limited:
            return ""
        return "met" if all(value <= limit for value, limit in limited) else "MISSED"

    @property
    def wanted(self) -> str:
        """The limits in words."""
        return " / ".join(f"≤ {limit:g}" for limit in (self.median, self.worst) if limit is not None)


@dataclass(slots=True, kw_only=True)
class Report:
    """The outcome of one benchmark."""

    benchmark: str
    runs: int
    host: dict[str, Any]
    measures: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """One line per run that failed: which, and why."""

    def add(self, measure: str, value: float) -> None:
        """Add one run's value of a measure."""
        self.measures.setdefault(measure, []).append(round(value, 1))

    def to_json(self) -> str:
        """Return the report as the contract has it."""
        document = {
            "benchmark": self.benchmark,
            "runs": self.runs,
            "host": self.host,
            "measures": {name: summary(values) for name, values in self.measures.items()},
            "failed_runs": len(self.failures),
            "failures": self.failures,
        }
        return json.dumps(document, indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON file whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(self.to_json())
        partial.replace(path)


def summary(values: list[float]) -> dict[str, Any]:
    """Return a measure as the contract has it. Raises: ValueError when there are no values."""
    if not values:
        raise ValueError("a measure without values is left out of the report")
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": values}


def target_table(report: Report, targets: Iterable[Target]) -> Table:
    """Return median and worst case of each target's measure beside the target."""
    table = Table(title="against the targets", title_justify="left", box=None, pad_edge=False)
    for heading, justify in (("what", "left"), ("n", "right"), ("median", "right"), ("worst", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("target: median / worst")
    table.add_column("")
    for target in targets:
        values = report.measures.get(target.measure)
        if values is None:
            table.add_row(target.title, "0", "-", "-", target.wanted, "not measured")
        else:
            median, worst = f"{statistics.median(values):.4g}", f"{max(values):.4g}"
            table.add_row(target.title, str(len(values)), median, worst, target.wanted, target.verdict_on(values))
    return table


def print_failures(report: Report, console: Console) -> None:
    """Print how many runs failed, and each with its reason."""
    console.print(f"failed runs: {len(report.failures)}")
    for line in report.failures:
        console.print(f"  {line}")
