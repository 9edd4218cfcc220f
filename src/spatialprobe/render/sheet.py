"""Many small maps laid out on one sheet of paper, each with its label above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import INK, PAPER, palette

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

Pixels = npt.NDArray[np.uint8]  # (H, W) palette codes or (H, W, 3) colours

_GAP = 4  # pixels between tiles, and around the sheet
_LABEL_HEIGHT = 14  # pixels above each tile
_LETTER_SIZE = 11  # pixels
_SMALLEST_TILE = 28  # pixels: room for a channel number of four digits
_COMFORTABLE_TILE = 128  # pixels: small maps are enlarged up to here
_LARGEST_SHEET = 1000  # pixels a side that enlarging does not exceed


@dataclass(frozen=True)
class Grid:
    """Where each of `count` maps of (height, width) units goes; all lengths but these two in pixels."""

    count: int
    height: int  # units
    width: int  # units
    columns: int
    factor: int  # pixels per unit

    @staticmethod
    def of(count: int, height: int, width: int, columns: int | None = None) -> Grid:
        """The layout for this many maps, with the best number of columns if none is given.

        Raises:
            ArgumentError: fewer than one column.
        """
        if columns is not None and columns < 1:
            raise ArgumentError(f"columns must be at least 1, not {columns}.")
        chosen = min(columns or best_columns(count, height, width), count)
        rows = -(-count // chosen)
        room = min(_LARGEST_SHEET / (chosen * width), _LARGEST_SHEET / (rows * height))
        factor = int(min(_COMFORTABLE_TILE / max(height, width), room))
        return Grid(count, height, width, chosen, max(1, factor, -(-_SMALLEST_TILE // width)))

    @property
    def rows(self) -> int:
        """The number of rows, the last of which may have empty places."""
        return -(-self.count // self.columns)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a tile with its label and the gap after it."""
        return self.height * self.factor + _LABEL_HEIGHT + _GAP, self.width * self.factor + _GAP

    def corner(self, index: int) -> tuple[int, int]:
        """Row and column of the top left pixel of a tile."""
        row, column = divmod(index, self.columns)
        return _GAP + row * self.cell[0] + _LABEL_HEIGHT, _GAP + column * self.cell[1]


def best_columns(count: int, height: int, width: int) -> int:
    """The number of columns for a sheet somewhat wider than high, with the fewest empty places in the last row."""
    square = max(1.0, (count * height / width) ** 0.5)
    candidates = range(min(count, int(np.ceil(square))), min(count, int(2 * square)) + 1)
    return min(candidates, key=lambda columns: (-count % columns, columns))


def lay_out(tiles: Pixels, labels: Sequence[str], grid: Grid) -> Pixels:
    """Tiles (M, h, w) of codes or (M, h, w, 3) of colours, magnified on paper, with their labels."""
    colour = tiles.shape[3:]
    paper = np.array(palette(False)[PAPER] if colour else PAPER, np.uint8)
    cells = np.empty((grid.rows, grid.cell[0], grid.columns, grid.cell[1], *colour), np.uint8)
    cells[...] = paper
    large = tiles.repeat(grid.factor, axis=1).repeat(grid.factor, axis=2) if grid.factor > 1 else tiles
    for row in range(grid.rows):
        here = large[row * grid.columns : (row + 1) * grid.columns]
        cells[row, _LABEL_HEIGHT:-_GAP, : len(here), :-_GAP] = here.swapaxes(0, 1)
    sheet = np.empty((grid.rows * grid.cell[0] + _GAP, grid.columns * grid.cell[1] + _GAP, *colour), np.uint8)
    sheet[:_GAP] = paper
    sheet[:, :_GAP] = paper
    sheet[_GAP:, _GAP:] = cells.reshape(grid.rows * grid.cell[0], grid.columns * grid.cell[1], *colour)
    _letter(sheet, labels, grid)
    return sheet


def room_for(label: str, grid: Grid) -> bool:
    """Whether a label fits above a tile."""
    return bool(_font().getlength(label) <= grid.cell[1] - _GAP)


def _letter(sheet: Pixels, labels: Sequence[str], grid: Grid) -> None:
    """Write each label on the paper above its tile."""
    from PIL import Image, ImageDraw

    for row in range(grid.rows):
        top = grid.corner(row * grid.columns)[0] - _LABEL_HEIGHT
        strip = Image.new("L", (sheet.shape[1], _LABEL_HEIGHT))
        draw = ImageDraw.Draw(strip)
        for index in range(row * grid.columns, min((row + 1) * grid.columns, grid.count)):
            draw.text((grid.corner(index)[1], _LABEL_HEIGHT - 2), labels[index], 255, _font(), anchor="ls")
        inks = INK.start + np.asarray(strip) // (256 // (INK.stop - INK.start))
        sheet[top : top + _LABEL_HEIGHT] = palette(False)[inks] if sheet.ndim == 3 else inks


@cache
def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(_LETTER_SIZE)
