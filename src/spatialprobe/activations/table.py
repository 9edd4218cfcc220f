"""Tables of records and layers, as plain text or HTML for a notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from spatialprobe.activations.records import Activation, shape_of
from spatialprobe.html_table import Cell, Html, format_html_table
from spatialprobe.text import format_bytes, format_count, format_table

_HEADINGS = ("layer", "type", "runs", "shape", "dtype", "size")
_NUMBERS = (2,)  # the right-aligned columns


def format_records(title: str, records: Sequence[Activation]) -> str:
    """Return a heading, and a row for each layer, with its shapes and the memory that its records take."""
    by_layer = _group_by_layer(records)
    if not records:
        return _format_heading(title, records)
    return format_layers(
        _format_heading(title, records), [_format_row(layer, runs) for layer, runs in by_layer.items()]
    )


def format_records_html(
    title: str,
    records: Sequence[Activation],
    thumbnails: Callable[[Sequence[Activation]], list[Html]],
    remark: str,
    more: Sequence[str] = (),
) -> str:
    """Return the table of records as HTML, with thumbnails of each layer's first run and a remark on them, if any.

    Args:
        title, records: what is shown.
        thumbnails: draws them.
        remark: what is said below if there are thumbnails.
        more: what is said below in any case.
    """
    by_layer = _group_by_layer(records)
    strips = thumbnails([runs[0] for runs in by_layer.values()])
    rows = [_format_row(layer, runs) for layer, runs in by_layer.items()]
    if not any(strip.code for strip in strips):
        return format_layers_html(_format_heading(title, records), rows, more)
    heading = _format_heading(title, records)
    cells: list[tuple[Cell, ...]] = [(*row, strip) for row, strip in zip(rows, strips, strict=True)]
    return format_html_table(heading, (*_HEADINGS, "maps"), cells, flush_right=_NUMBERS, remarks=[remark, *more])


def format_layers(heading: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return a heading, and rows of layer, type, runs, shape, dtype and size."""
    return format_table(heading, [_HEADINGS, *rows], flush_right=_NUMBERS)


def format_layers_html(heading: str, rows: Sequence[tuple[str, ...]], remarks: Sequence[str] = ()) -> str:
    """Return the table of layers as HTML."""
    return format_html_table(heading, _HEADINGS if rows else (), rows, flush_right=_NUMBERS, remarks=remarks)


def _group_by_layer(records: Sequence[Activation]) -> dict[str, list[Activation]]:
    """Return the records of each layer, in the order in which the layers first ran."""
    by_layer: dict[str, list[Activation]] = {}
    for record in records:
        by_layer.setdefault(record.layer, []).append(record)
    return by_layer


def _format_heading(title: str, records: Sequence[Activation]) -> str:
    if not records:
        return f"{title}: no records (yet)"
    layers = format_count(len({record.layer for record in records}), "layer")
    total = format_bytes(sum(record.nbytes for record in records))
    return f"{title}: {layers} ran, {format_count(len(records), 'record')}, {total}"


def _format_row(layer: str, runs: list[Activation]) -> tuple[str, ...]:
    shapes = dict.fromkeys(shape_of(run) for run in runs)
    dtypes = dict.fromkeys(str(run.dtype).removeprefix("torch.") for run in runs)
    shown = " ".join(list(shapes)[:2]) + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")
    size = format_bytes(sum(run.nbytes for run in runs))
    return (layer or "(model)", runs[0].module_type, str(len(runs)), shown, " ".join(dtypes), size)
