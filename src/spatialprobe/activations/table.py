"""Records as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spatialprobe.activations.records import Activation

_HEADINGS = ("layer", "type", "runs", "shape", "dtype", "size")
_NUMBERS = (2,)  # the columns set flush right


def records_table(title: str, records: Sequence[Activation]) -> str:
    """A heading, and a row for each layer, with its shapes and the memory that its records take."""
    by_layer: dict[str, list[Activation]] = {}
    for record in records:
        by_layer.setdefault(record.layer, []).append(record)
    if not records:
        return f"{title}: no records (yet)"
    total = byte_size(sum(record.nbytes for record in records))
    heading = f"{title}: {counted(len(by_layer), 'layer')} ran, {counted(len(records), 'record')}, {total}"
    return layers_table(heading, [_row(layer, runs) for layer, runs in by_layer.items()])


def layers_table(heading: str, rows: Sequence[tuple[str, ...]]) -> str:
    """A heading, and rows of layer, type, runs, shape, dtype and size."""
    return table(heading, [_HEADINGS, *rows], flush_right=_NUMBERS)


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


def _row(layer: str, runs: list[Activation]) -> tuple[str, ...]:
    shapes = dict.fromkeys(str(run.shape) for run in runs)
    dtypes = dict.fromkeys(str(run.dtype).removeprefix("torch.") for run in runs)
    shown = " ".join(list(shapes)[:2]) + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")
    size = byte_size(sum(run.nbytes for run in runs))
    return (layer or "(model)", runs[0].module_type, str(len(runs)), shown, " ".join(dtypes), size)


def _aligned(row: Sequence[str], widths: list[int], flush_right: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if column in flush_right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
