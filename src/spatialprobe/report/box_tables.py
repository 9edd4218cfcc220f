"""Receptive fields as small tables: what each row and each column of units sees, or each unit where that differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.fields.result import ReceptiveField

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BoxTable:
    """The boxes of all units of a map of (h, w).

    Mostly all units of a row see the same rows of the input, and all of a column the same columns; then `numbers` is
    (h + w, 4): for each row, then for each column, the first pixel, the one after the last, and the same two without
    borders. Otherwise it is (h, w, 8): y0, x0, y1, x1, and the same without borders. Zeros are an empty box.
    """

    numbers: Ints

    @property
    def by_axis(self) -> bool:
        """Whether rows and columns say all."""
        return self.numbers.ndim == 2

    @staticmethod
    def of(field: ReceptiveField, channel: int | None) -> BoxTable:
        """The boxes of one channel, or of any."""
        both = np.concatenate([field.boxes(channel), field.boxes(channel, clip=False)], axis=-1)
        seen = both[..., 2] > both[..., 0]
        rows, columns = _ranges(both[..., [0, 2, 4, 6]], seen, 1), _ranges(both[..., [1, 3, 5, 7]], seen, 0)
        table = BoxTable(np.concatenate([rows, columns]))
        return table if np.array_equal(table.boxes(len(rows)), both) else BoxTable(both)

    def boxes(self, height: int) -> Ints:
        """(h, w, 8): the boxes of all units, then the same without borders."""
        if not self.by_axis:
            return self.numbers
        rows, columns = self.numbers[:height, None], self.numbers[None, height:]
        wide = np.broadcast_arrays(*(line[..., k] for k in (0, 1, 2, 3) for line in (rows, columns)))
        boxes = np.stack(wide, axis=-1)
        boxes[(boxes[..., 0] >= boxes[..., 2]) | (boxes[..., 1] >= boxes[..., 3])] = 0
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


def _ranges(sides: Ints, seen: npt.NDArray[np.bool_], axis: int) -> Ints:
    """(n, 4): of each line of units along an axis what its first unit that sees anything does; zeros where none."""
    first = np.expand_dims(seen.argmax(axis=axis), (axis, 2))
    return np.asarray(np.take_along_axis(sides, first, axis).squeeze(axis))


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
