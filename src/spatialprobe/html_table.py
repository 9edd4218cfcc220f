"""Tables for notebooks: plain HTML that takes its colors from the page around it, light or dark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from spatialprobe.text import as_html

_LINE = "1px solid rgba(128,128,128,.35)"  # seen on white and on black
_CELL = "padding:3px 12px 3px 0;vertical-align:middle;white-space:nowrap;border:0"
_LEFT, _RIGHT = "text-align:left", "text-align:right"


@dataclass(frozen=True)
class Html:
    """A cell that is HTML already; any other is plain text."""

    code: str


Cell = str | Html


def format_html_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    flush_right: Collection[int] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Return a table under a title, with sentences below it; whatever texts hold, they stay text.

    Styles are written into the tags, since notebooks drop or share style sheets.

    >>> format_html_table("Two < three", ["layer"], [["conv1"]]).count("&lt;")
    1
    """
    sides = [_RIGHT if column in flush_right else _LEFT for column in range(max(len(headings), 2))]
    head = "".join(
        f'<th scope="col" style="{_CELL};{side};border-bottom:{_LINE};font-weight:600">{as_html(heading)}</th>'
        for heading, side in zip(headings, sides, strict=False)
    )
    body = "".join(f"<tr>{_format_row(row, sides)}</tr>" for row in rows)
    below = "".join(f'<p style="margin:.3em 0;opacity:.8">{as_html(remark)}</p>' for remark in remarks)
    head_line = f'<div style="font-weight:600;margin-bottom:4px">{as_html(title)}</div>' if title else ""
    return (
        f'<div style="font:13px/1.4 system-ui,sans-serif;margin:0 0 .6em;max-width:100%;overflow-x:auto">'
        f"{head_line}"
        f'<table style="border-collapse:collapse;margin:0;border:0;font-size:inherit;color:inherit;width:auto">'
        f"{f'<thead><tr>{head}</tr></thead>' if headings else ''}<tbody>{body}</tbody></table>{below}</div>"
    )


def _format_row(cells: Sequence[Cell], sides: Sequence[str]) -> str:
    return "".join(
        f'<td style="{_CELL};{side}">{cell.code if isinstance(cell, Html) else as_html(cell)}</td>'
        for cell, side in zip(cells, sides, strict=False)
    )
