"""Results as tables for a notebook: a row for each field, arrays in few words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from spatialprobe.html_table import Cell, Html, format_html_table
from spatialprobe.text import as_html


def format_fields_html(result: Any, layer: str | None, more: Mapping[str, object] | None = None) -> str:
    """Return a dataclass's fields as rows, with further facts first, under its type and its layer's name."""
    shown = {**(more or {}), **{one.name: getattr(result, one.name) for one in fields(result) if one.repr}}
    title = type(result).__name__ + ("" if layer is None else f" of layer {layer!r}" if layer else " of the model")
    rows = [(name, wrap_cell(_describe(value))) for name, value in shown.items() if not _says_nothing(value)]
    return format_html_table(title, (), [row for row in rows if row[0] != "layer"])


def _says_nothing(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and not value)


def wrap_cell(text: str) -> Cell:
    """Return a cell whose text may take several lines."""
    return Html(f'<span style="white-space:normal;overflow-wrap:anywhere">{as_html(text)}</span>')


def _describe(value: object) -> str:
    """Return a value in few words: of an array dtype, shape and range."""
    if isinstance(value, torch.Tensor):
        dtype, values = str(value.dtype).removeprefix("torch."), value.detach().cpu().numpy()
    elif isinstance(value, np.ndarray):
        dtype, values = str(value.dtype), value
    elif isinstance(value, float):
        return f"{value:.4g}"
    elif isinstance(value, tuple) and all(isinstance(one, float) for one in value):
        return ", ".join(f"{one:.4g}" for one in value)
    else:
        return value if isinstance(value, str) else repr(value)
    return f"{dtype} {values.shape}{_describe_range(values)}"


def _describe_range(values: Any) -> str:
    """Return the range of an array's finite values after a comma, of booleans how many are true."""
    if values.dtype == bool:
        return f", {int(values.sum())} of {values.size} true"
    finite = values[np.isfinite(values)] if values.dtype.kind in "fiu" else values[:0]
    return f", {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
