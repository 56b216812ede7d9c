"""The contract of a benchmark's JSON, and what counts as a target met."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from holdfast.lab.bench.report import Report, Target, summary, target_table

HOST = {"cpu": "one", "cores": 2}
TARGET = Target(measure="cut_ms", title="cut", median=1500, worst=2500)


def a_report() -> Report:
    report = Report(benchmark="failover", runs=3, host=HOST)
    for value in (1200.04, 1900.0, 1000.0):
        report.add("cut_ms", value)
    return report


def test_json_has_the_contracts_keys_and_every_value_in_order() -> None:
    told = json.loads(a_report().to_json())
    assert (told["benchmark"], told["runs"], told["host"]) == ("failover", 3, HOST)
    assert told["measures"]["cut_ms"] == {
        "median": 1200.0,
        "min": 1000.0,
        "max": 1900.0,
        "all": [1200.0, 1900.0, 1000.0],
    }


def test_a_failed_run_is_counted_and_adds_no_value() -> None:
    report = a_report()
    report.failures.append("leader: node2 never came back")
    told = json.loads(report.to_json())
    assert told["failed_runs"] == 1
    assert told["failures"] == ["leader: node2 never came back"]
    assert len(told["measures"]["cut_ms"]["all"]) == 3


def test_an_even_number_of_values_has_the_middle_as_median() -> None:
    assert summary([1.0, 2.0, 4.0, 9.0])["median"] == 3.0


def test_no_values_have_no_summary() -> None:
    with pytest.raises(ValueError, match="left out"):
        summary([])


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1500.0, 1500.0, 2500.0], "met"),
        ([1501.0, 1501.0, 1501.0], "MISSED"),
        ([1000.0, 1000.0, 2501.0], "MISSED"),
    ],
)
def test_a_target_needs_the_median_and_the_worst_case(values: list[float], verdict: str) -> None:
    assert TARGET.verdict_on(values) == verdict


def test_a_target_without_worst_case_needs_the_median_only() -> None:
    assert Target(measure="cut_ms", title="cut", median=1500).verdict_on([1000.0, 1000.0, 9000.0]) == "met"


def test_what_has_no_target_is_neither_met_nor_missed() -> None:
    shown = Target(measure="cut_ms", title="cut")
    assert (shown.wanted, shown.verdict_on([9000.0])) == ("", "")


def test_the_table_tells_met_missed_and_not_measured() -> None:
    report = a_report()
    report.add("slow_ms", 9.0)
    targets = (
        TARGET,
        Target(measure="slow_ms", title="slow", median=5),
        Target(measure="never_ms", title="never", median=5),
    )
    console = Console(width=120)
    with console.capture() as shown:
        console.print(target_table(report, targets))
    lines = shown.get().splitlines()
    verdicts = {line.split()[0]: line for line in lines}
    assert verdicts["cut"].rstrip().endswith("met")
    assert verdicts["slow"].rstrip().endswith("MISSED")
    assert verdicts["never"].rstrip().endswith("not measured")


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "failover.json"
    path.write_text("old")
    a_report().write(path)
    assert json.loads(path.read_text())["runs"] == 3
    assert list(tmp_path.iterdir()) == [path]
