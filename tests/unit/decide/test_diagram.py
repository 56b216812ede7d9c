"""The page shows the table that decides."""

from pathlib import Path

from holdfast.decide.diagram import lifecycle_table

PAGE = Path(__file__).parents[3] / "docs" / "decisions.md"


def test_the_page_shows_the_lifecycle_as_it_is() -> None:
    table = lifecycle_table()
    assert table in PAGE.read_text(), f"put this into {PAGE}:\n\n{table}"
