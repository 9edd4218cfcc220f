"""Records as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from spatialprobe.activations.records import Activation, shape_of
from spatialprobe.text import format_bytes, format_count, format_table

_HEADINGS = ("layer", "type", "runs", "shape", "dtype", "size")
_NUMBERS = (2,)  # the columns set flush right


def format_records(title: str, records: Sequence[Activation]) -> str:
    """A heading, and a row for each layer, with its shapes and the memory that its records take."""
    by_layer: dict[str, list[Activation]] = {}
    for record in records:
        by_layer.setdefault(record.layer, []).append(record)
    if not records:
        return f"{title}: no records (yet)"
    total = format_bytes(sum(record.nbytes for record in records))
    heading = f"{title}: {format_count(len(by_layer), 'layer')} ran, {format_count(len(records), 'record')}, {total}"
    return format_layers(heading, [_format_row(layer, runs) for layer, runs in by_layer.items()])


def format_layers(heading: str, rows: Sequence[tuple[str, ...]]) -> str:
    """A heading, and rows of layer, type, runs, shape, dtype and size."""
    return format_table(heading, [_HEADINGS, *rows], flush_right=_NUMBERS)


def _format_row(layer: str, runs: list[Activation]) -> tuple[str, ...]:
    shapes = dict.fromkeys(shape_of(run) for run in runs)
    dtypes = dict.fromkeys(str(run.dtype).removeprefix("torch.") for run in runs)
    shown = " ".join(list(shapes)[:2]) + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")
    size = format_bytes(sum(run.nbytes for run in runs))
    return (layer or "(model)", runs[0].module_type, str(len(runs)), shown, " ".join(dtypes), size)
