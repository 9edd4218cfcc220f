"""Receptive fields as small tables: what each row and each column of units sees, or each unit where that differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.fields.result import ReceptiveField

Ints = npt.NDArray[np.int64]


_ROWS, _COLUMNS, _SLICES = [0, 2, 4, 6], [1, 3, 5, 7], [8, 9, 10, 11]  # of a unit's numbers, those along each axis


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The boxes of all units of a map of (h, w), of a line (1, w), or of a volume (d, h, w).

    Mostly all units of a row see the same rows of the input, and all of a column the same columns; then `numbers` is
    (h + w, 4): for each row, then for each column, the first pixel, the one after the last, and the same two without
    borders. Otherwise it is (h, w, 8): y0, x0, y1, x1, and the same without borders. Zeros are an empty box. Where
    units or input are volumes, d lines follow for the slices, and z0, z1 and the same without borders, (d, h, w, 12).
    """

    numbers: Ints
    size: tuple[int, ...]  # h, w, or d, h, w

    @property
    def by_axis(self) -> bool:
        """Whether rows, columns and slices say all."""
        return self.numbers.ndim == 2

    @staticmethod
    def of(field: ReceptiveField, channel: int | None) -> BoxTable:
        """The boxes of one channel, or of any."""
        each = _units_boxes(field, channel)
        size = each.shape[:-1]
        lines = [_ranges(each, _ROWS, -3), _ranges(each, _COLUMNS, -2)]
        lines += [_ranges(each, _SLICES, -4)] if len(size) == 3 else []
        table = BoxTable(np.concatenate(lines), size)
        return table if np.array_equal(table.boxes(), each) else BoxTable(each, size)

    def boxes(self) -> Ints:
        """(h, w, 8) or (d, h, w, 12): the numbers of each unit."""
        if not self.by_axis:
            return self.numbers
        height, width = self.size[-2:]
        lines = np.split(self.numbers, [height, height + width])
        shapes = ((height, 1, 4), (width, 4), (-1, 1, 1, 4))[: len(self.size)]
        rows, columns, *slices = (line.reshape(shape) for line, shape in zip(lines, shapes, strict=False))
        sides = [line[..., k] for k in range(4) for line in (rows, columns)]
        sides += [line[..., k] for line in slices for k in range(4)]
        boxes = np.stack(np.broadcast_arrays(*sides), axis=-1)
        boxes[~_seen(boxes)] = 0
        return boxes


@dataclass(frozen=True, eq=False)
class LayerBoxes:
    """The tables of a layer, and which of them holds for each channel."""

    tables: tuple[BoxTable, ...]
    of_channel: npt.NDArray[np.int64]  # (C,) the number of the channel's table
    exact: bool
    unknown: tuple[str, ...]  # operators without a rule

    @staticmethod
    def of(field: ReceptiveField, channels: int) -> LayerBoxes:
        """The boxes of a layer's field; one table where all channels see the same."""
        if not field.per_channel:
            return LayerBoxes((BoxTable.of(field, None),), np.zeros(channels, np.int64), field.exact, field.unknown)
        tables, which = _distinct([BoxTable.of(field, channel) for channel in range(channels)])
        return LayerBoxes(tables, which, field.exact, field.unknown)


def _units_boxes(field: ReceptiveField, channel: int | None) -> Ints:
    """(h, w, 8) or (d, h, w, 12): what each unit sees; an axis that units or input lack has one place."""
    axes, units = len(field.input_size), field.output_size
    solid = max(axes, len(units)) == 3
    cut, whole = field.boxes(channel), field.boxes(channel, clip=False)
    seen = np.asarray((cut[..., axes:] > cut[..., :axes]).all(axis=-1))
    sides = []
    for found in (cut, whole):
        ends = np.zeros((*units, 2, 3), np.int64)
        ends[..., 1, :] = 1
        ends[..., 3 - axes :] = found.reshape(*units, 2, axes)
        sides.append(np.where(seen[..., None, None], ends, 0))
    flat = [ends[..., 1:].reshape(*units, 4) for ends in sides]
    flat += [ends[..., 0] for ends in sides] if solid else []
    size = (1,) * ((3 if solid else 2) - len(units)) + tuple(units)
    return np.concatenate(flat, axis=-1).reshape(*size, -1)


def _seen(boxes: Ints) -> npt.NDArray[np.bool_]:
    """Return which units see anything."""
    found = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return found & (boxes[..., 9] > boxes[..., 8]) if boxes.shape[-1] > 8 else found


def _ranges(boxes: Ints, numbers: list[int], axis: int) -> Ints:
    """(n, 4): of each line of units along an axis what its first unit that sees anything does; zeros where none."""
    lines = np.moveaxis(boxes, axis, 0).reshape(boxes.shape[axis], -1, boxes.shape[-1])
    first = _seen(lines).argmax(axis=1)
    return np.asarray(lines[np.arange(len(lines)), first][:, numbers])


def _distinct(tables: list[BoxTable]) -> tuple[tuple[BoxTable, ...], npt.NDArray[np.int64]]:
    """Each table once, and the number of every channel's."""
    numbers: dict[tuple[tuple[int, ...], bytes], int] = {}
    kept: list[BoxTable] = []
    which = []
    for table in tables:
        key = table.numbers.shape, table.numbers.tobytes()
        if key not in numbers:
            numbers[key] = len(kept)
            kept.append(table)
        which.append(numbers[key])
    return tuple(kept), np.array(which)
