"""The receptive fields of a model's layers as one mapping, which prints as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod

from spatialprobe.arguments import short_repr
from spatialprobe.errors import LayerNotFoundError
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.html_table import format_html_table
from spatialprobe.model.calls import LayerCalls
from spatialprobe.model.names import find_name, is_name
from spatialprobe.text import escape_surrogates


class ReceptiveFields(LayerCalls[ReceptiveField]):
    """The receptive fields of a model's layers, by name, in the order in which the layers first ran.

    `fields["conv1"]` is the field of a layer that ran once, `fields["shared", i]` that of the i-th of several runs. The
    repr is a table.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.MaxPool2d(2))
    >>> fields = sp.receptive_fields(model, (1, 3, 32, 32))
    >>> fields
    Receptive fields of Sequential, in pixels of an input of 32 x 32
      layer    units    size   stride  start  of the image
      0        30 x 30  3 x 3  1 x 1   0, 0   0.9%
      1        15 x 15  4 x 4  2 x 2   0, 0   1.6%
      (model)  15 x 15  4 x 4  2 x 2   0, 0   1.6%
    >>> fields["1"].box(0, 0)
    Box(y0=0, x0=0, y1=4, x1=4)
    """

    _called = "fields"

    def __init__(
        self,
        fields: Mapping[str, Sequence[ReceptiveField]],
        *,
        aliases: Mapping[str, str],
        missing: Mapping[str, str],
        title: str,
        unmatched: Sequence[str] = (),
        gate: str = "",
    ) -> None:
        self._fields = {layer: tuple(calls) for layer, calls in fields.items()}
        self._aliases = dict(aliases)  # every name that finds a layer -> the name of its fields
        self._missing = dict(missing)  # layers without a field, and why
        self._title = title
        self._unmatched = tuple(unmatched)  # the types to ignore of which the model has no module
        self._gate = gate  # from which layer on every unit sees everything, and how to leave that out; or ""

    @property
    def missing(self) -> Mapping[str, str]:
        """The modules that have no field, and why."""
        return dict(self._missing)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences below the table: what every unit sees by way of a gate, what was ignored, what is missing."""
        ignored = dict.fromkeys(kind for calls in self._fields.values() for one in calls for kind in one.ignored)
        remarks = [self._gate] if self._gate else []
        if ignored:
            remarks.append(
                f"Ignored: {', '.join(ignored)}. These modules count as constant gates, which add nothing to a field."
            )
        if self._missing:
            remarks.append(f"No field: {_name_first(self._missing)}; .missing says why.")
        if self._unmatched:
            remarks.append(f"Nothing to ignore: the model has no module of type {', '.join(self._unmatched)}.")
        return tuple(remarks)

    @property
    def left_out(self) -> Mapping[str, str]:
        """The same as `missing`, under the name that other results have for it."""
        return self.missing

    def calls(self, layer: str) -> tuple[ReceptiveField, ...]:
        """Return the fields of all runs of one layer, in the order of execution.

        Raises:
            LayerNotFoundError: the model has no such layer, or it has no field.
        """
        name = self._aliases.get(layer, layer) if is_name(layer) else layer
        if is_name(name) and name in self._missing:
            raise LayerNotFoundError(f"There is no receptive field of layer {short_repr(layer)}: {self._missing[name]}")
        return self._fields[find_name(name, self._fields, "There is no receptive field of a layer")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __repr__(self) -> str:
        rows = [_HEADINGS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        return escape_surrogates("\n".join([self._title, *("  " + line for line in lines), *self.remarks]))

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return format_html_table(self._title, _HEADINGS, self._rows(), remarks=self.remarks)

    def _rows(self) -> list[tuple[str, ...]]:
        return [_format_row(one, len(calls)) for calls in self._fields.values() for one in calls]


_HEADINGS = ("layer", "units", "size", "stride", "start", "of the image", "")


def _format_row(one: ReceptiveField, calls: int) -> tuple[str, ...]:
    """Return a field as cells of text."""
    name = one.layer or "(model)"
    remarks = [
        f"period {_join_numbers(one.period)}" if any(period > 1 for period in one.period) else "",
        "" if one.exact else "upper bound" + (f" ({', '.join(one.unknown)})" if one.unknown else ""),
    ]
    return (
        f"{name}, {one.call}" if calls > 1 else name,
        _join_numbers(one.output_size) or "-",
        _join_numbers(one.size),
        _join_numbers(one.stride),
        _join_numbers(one.start, ", "),
        f"{_input_share(one):.1%}",
        "; ".join(filter(None, remarks)),
    )


def _input_share(one: ReceptiveField) -> float:
    """Return the share of the input that the middle unit sees."""
    box = one.box(*(size // 2 for size in one.output_size))
    return prod(box.shape) / max(1, prod(one.input_size)) if box else 0.0


def _join_numbers(numbers: Sequence[int | float], between: str = " x ") -> str:
    """Return numbers as text, such as '3 x 3'."""
    return between.join(f"{number:g}" for number in numbers)


def _name_first(names: Iterable[str]) -> str:
    """Return the first two names, and how many more there are, as text."""
    called = [name or "(model)" for name in names]
    return ", ".join(called[:2]) + (f" and {len(called) - 2} more" if len(called) > 2 else "")
