"""How things are written out: tables of plain text, counts, byte sizes."""

from __future__ import annotations

from collections.abc import Sequence


def table(heading: str, lines: Sequence[tuple[str, ...]], flush_right: Sequence[int] = ()) -> str:
    """A heading, and lines of cells in columns, of which some are set flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([heading, *("  " + _aligned(line, widths, flush_right) for line in lines)])


def byte_size(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def counted(count: int, noun: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _aligned(row: Sequence[str], widths: list[int], flush_right: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if column in flush_right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
