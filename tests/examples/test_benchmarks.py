"""The page of benchmarks is made of the stored results alone, and its first table finds a figure for each subject."""

import json
from pathlib import Path

import pytest
from benchmarks import page
from benchmarks.charts import count_right
from benchmarks.headlines import HEADLINES, find
from benchmarks.method import Figure, Table, as_markdown

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text())


def test_the_page_is_that_of_the_results(results):
    """The page in the documentation is what its results give, word for word, and all its pictures lie beside it."""
    text = page.compose(results)
    assert text == (FOLDER / "index.md").read_text(encoding="utf-8")
    shown = {line.rpartition("(")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    assert shown == {path.name for path in FOLDER.glob("*.png")}


@pytest.mark.parametrize("headline", HEADLINES, ids=lambda headline: headline.what)
def test_headlines_have_figures(headline, results):
    """Each row of the first table stands for a figure that has been measured, and so does the peer's beside it."""
    tables = page.read_tables(results)
    found = find(headline, headline.row, tables)[1]
    assert found.low <= found.median <= found.high
    assert (headline.peer == "") == (headline.peer_name == "")
    if headline.peer:
        assert find(headline, headline.peer, tables)[1].name != found.name


def test_every_section_is_shown(results):
    """No section that is measured, and no curve, is left off the page."""
    text = page.compose(results)
    for section, entry in results.items():
        for table in entry["tables"]:
            assert table["title"] in text, section


def test_a_last_column_is_named():
    """Remarks stand in a column with a name; without remarks there is no such column."""
    plain = Table("a", "times b", (Figure("c", 1, 2, 3),), missing=("d",))
    assert as_markdown(plain).splitlines()[2:] == [
        "|  | median | quartiles |",
        "| --- | --- | --- |",
        "| c | 2.00 | 1.00 to 3.00 |",
        "| d | missing |  |",
    ]
    marked = Table("a", "times b", (Figure("c", 1, 2, 3, "1 of 2 right"),), last="right records")
    assert "| quartiles | right records |" in as_markdown(marked)


def test_counts_of_right_records():
    """A remark that counts nothing is an error, not a zero."""
    assert count_right("1 of 13 right") == (1, 13)
    with pytest.raises(ValueError, match="No count of right records: 'all right'"):
        count_right("all right")
