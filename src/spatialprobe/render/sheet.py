"""Many small maps laid out on one sheet of paper, each with its label above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_int
from spatialprobe.render.letters import LINE_HEIGHT, Label, width_of, write
from spatialprobe.render.palette import HATCH, PAPER, Codes, palette
from spatialprobe.text import escape_controls

Pixels = npt.NDArray[np.uint8]  # (H, W) palette codes or (H, W, 3) colors

_GAP = 4  # pixels between tiles, and around the sheet
_LINES = 7  # pixels between the lines over a dead tile
_SMALLEST_TILE = 32  # pixels: room for a channel number of four digits and a mark
_COMFORTABLE_TILE = 128  # pixels: small maps are enlarged up to this mean of their sides
_LARGEST_SHEET = 1000  # pixels a side that enlarging does not exceed


@dataclass(frozen=True)
class Grid:
    """The place of each of `count` maps of (height, width) units goes; all lengths but these two in pixels."""

    count: int
    height: int  # units
    width: int  # units
    columns: int
    factor: int  # pixels per unit

    @staticmethod
    def of(count: int, height: int, width: int, columns: int | None = None, largest: int = _LARGEST_SHEET) -> Grid:
        """The layout for this many maps, with the best number of columns if none is given.

        Small maps are enlarged until a side of the sheet has `largest` pixels.

        Raises:
            ArgumentError: fewer than one column.
        """
        if columns is not None:
            columns = as_int(columns, "columns", least=1)
        chosen = min(columns or best_columns(count, height, width), count)
        rows = -(-count // chosen)
        room = min(largest / (chosen * width), largest / (rows * height))
        factor = int(min(_COMFORTABLE_TILE / (height * width) ** 0.5, room))
        return Grid(count, height, width, chosen, max(1, factor, -(-_SMALLEST_TILE // width)))

    @property
    def rows(self) -> int:
        """The number of rows, the last of which may have empty places."""
        return -(-self.count // self.columns)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a tile with its label and the gap after it."""
        return self.height * self.factor + LINE_HEIGHT + _GAP, self.width * self.factor + _GAP

    def corner(self, index: int) -> tuple[int, int]:
        """Row and column of the top left pixel of a tile."""
        row, column = divmod(index, self.columns)
        return _GAP + row * self.cell[0] + LINE_HEIGHT, _GAP + column * self.cell[1]


def best_columns(count: int, height: int, width: int) -> int:
    """The number of columns for a sheet somewhat wider than high, with the fewest empty places in the last row."""
    square = max(1.0, (count * height / width) ** 0.5)
    candidates = range(min(count, int(np.ceil(square))), min(count, int(2 * square)) + 1)
    return min(candidates, key=lambda columns: (-count % columns, columns))


@dataclass(eq=False)
class Sheet:
    """Paper that is drawn and written on, and what was written where."""

    pixels: Pixels
    labels: list[Label] = field(default_factory=list)

    @staticmethod
    def blank(height: int, width: int, like: Pixels | None = None) -> Sheet:
        """Empty paper, of codes, or of colors as the tiles that go on it."""
        color = like is not None and like.ndim == 4
        paper = palette(False)[PAPER] if color else PAPER
        return Sheet(np.full((height, width, *((3,) if color else ())), paper, np.uint8))

    def write(self, text: str, top: int, left: int) -> None:
        """Write a line of text."""
        if text:
            shown = escape_controls(text)
            write(self.pixels, shown, top, left)
            self.labels.append(Label(shown, top, left))

    def paste(self, other: Sheet, top: int, left: int) -> None:
        """Lay another sheet on this one."""
        height, width = other.pixels.shape[:2]
        self.pixels[top : top + height, left : left + width] = other.pixels
        self.labels += [Label(one.text, one.top + top, one.left + left) for one in other.labels]

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])


def lay_out(tiles: Pixels, labels: Sequence[str], grid: Grid, dead: npt.NDArray[np.bool_] | None = None) -> Sheet:
    """Tiles (M, h, w) of codes or (M, h, w, 3) of colors, magnified on paper, with their labels.

    In place of those that are `dead`, (M,), of codes, there are fine lines on paper, which are no value's color.
    """
    sheet = Sheet.blank(grid.rows * grid.cell[0] + _GAP, grid.columns * grid.cell[1] + _GAP, tiles)
    color = tiles.shape[3:]
    cells = sheet.pixels[_GAP:, _GAP:].reshape(grid.rows, grid.cell[0], grid.columns, grid.cell[1], *color)
    for row in range(grid.rows):
        here = tiles[row * grid.columns : (row + 1) * grid.columns]
        place = cells[row, LINE_HEIGHT:-_GAP, : len(here), :-_GAP]  # each unit becomes a square of pixels
        squares = place.reshape(grid.height, grid.factor, len(here), grid.width, grid.factor, *color)
        squares[...] = here.swapaxes(0, 1)[:, None, :, :, None]
    if dead is not None and dead.any():
        height, width = grid.height * grid.factor, grid.width * grid.factor
        lines = hatched(height, width)
        for silent in np.flatnonzero(dead).tolist():
            top, left = grid.corner(silent)
            sheet.pixels[top : top + height, left : left + width] = lines
    for index, label in enumerate(labels):
        top, left = grid.corner(index)
        sheet.write(label, top - LINE_HEIGHT, left)
    return sheet


def hatched(height: int, width: int, period: int = _LINES) -> Codes:
    """Return fine lines on paper, (height, width), which stand for a map that is zero everywhere.

    >>> (hatched(2, 7) == HATCH).tolist()
    [[True, False, False, False, False, False, False], [False, False, False, False, False, False, True]]
    """
    lines = np.add.outer(np.arange(height), np.arange(width)) % period == 0
    return np.where(lines, np.uint8(HATCH), np.uint8(PAPER))


def room_for(label: str, grid: Grid) -> bool:
    """Return whether a label fits above a tile."""
    return width_of(label) <= grid.cell[1] - _GAP
