"""Tables for notebooks: names stay text, colors come from the page around."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from spatialprobe.html_table import Html, format_html_table


class Reader(HTMLParser):
    """Reads the cells of a page's tables, as a browser would."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags, self.open = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.open = tag in ("td", "th") or self.open

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.rows[-1][-1] += data


def test_cells_are_read_back():
    """Headings, rows, title and remarks, whatever they hold."""
    odd = "</td><script>alert(1)</script>\ud800&amp;"
    page = format_html_table(odd, ["layer", odd], [[odd, "1"], ["b", Html("<i>2</i>")]], flush_right=[1], remarks=[odd])
    found = Reader(page)
    shown = odd.replace("\ud800", "\\ud800")
    assert found.rows == [["layer", shown], [shown, "1"], ["b", "2"]]
    assert "script" not in found.tags
    assert page.encode()


def test_no_color_is_given_but_that_of_lines():
    """Text and background are the page's own, light or dark: only a line has a color, seen on both."""
    page = format_html_table("title", ["a", "b"], [["1", "2"]], remarks=["more"])
    assert set(re.findall(r"rgba?\([^)]*\)|#[0-9a-f]{3,8}", page)) == {"rgba(128,128,128,.35)"}
    assert "background" not in page


def test_columns_of_numbers_are_flush_right():
    """As in the plain table."""
    page = format_html_table("", ["layer", "runs"], [["conv1", "2"]], flush_right=[1])
    assert re.findall(r"text-align:(\w+)", page) == ["left", "right", "left", "right"]
