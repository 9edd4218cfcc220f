"""Rows of tiles, each row with its name at the left, in as many blocks side by side as make a handy sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spatialprobe.render.letters import LINE_HEIGHT, shortened, width_of
from spatialprobe.render.sheet import Grid, Pixels, Sheet, lay_out

_GAP = 8  # pixels around a row's name, and between blocks
_TILE = 96  # pixels: small tiles are enlarged up to here
_LARGEST_SHEET = 1400  # pixels a side that enlarging does not exceed
_WIDEST_NAME = 160  # pixels


@dataclass(frozen=True)
class Rows:
    """The place of each of `count` rows of `columns` tiles of (height, width) units goes."""

    count: int
    columns: int
    height: int  # units
    width: int  # units
    blocks: int  # side by side, each of as many whole rows
    factor: int  # pixels per unit

    @staticmethod
    def of(count: int, columns: int, height: int, width: int, narrowest: int = 36) -> Rows:
        """The layout with tiles of at least `narrowest` pixels across, and about as high as wide."""
        least = -(-narrowest // width)
        factor = max(least, _TILE // max(height, width), 1)
        while True:
            row = (height * factor + LINE_HEIGHT, columns * (width * factor + 4) + 4 * LINE_HEIGHT)
            blocks = min(count, max(1, round((count * row[0] / row[1]) ** 0.5)))
            sides = (-(-count // blocks) * row[0], blocks * row[1])
            if factor <= least or factor == 1 or max(sides) <= _LARGEST_SHEET:
                return Rows(count, columns, height, width, blocks, factor)
            factor -= 1

    @property
    def block(self) -> int:
        """Rows in a block; the last may have fewer."""
        return -(-self.count // self.blocks)

    def enlarged(self) -> Rows:
        """The same places for tiles that are enlarged already."""
        return replace(self, height=self.height * self.factor, width=self.width * self.factor, factor=1)

    def grid(self, rows: int) -> Grid:
        """The places of the tiles of some rows."""
        return Grid(rows * self.columns, self.height, self.width, self.columns, self.factor)


def lay_out_rows(
    tiles: Pixels,
    labels: Sequence[str],
    names: Sequence[str],
    rows: Rows,
    heads: Sequence[str] = (),
    dead: npt.NDArray[np.bool_] | None = None,
) -> Sheet:
    """Tiles (R * k, h, w) of codes or (R * k, h, w, 3) of colors, labeled, under heads and beside the rows' names."""
    gutter = max(width_of(name) for name in names) + _GAP
    blocks = []
    for first in range(0, rows.count, rows.block):
        last = min(first + rows.block, rows.count)
        part = slice(first * rows.columns, last * rows.columns)
        silent = None if dead is None else dead[part]
        grid = rows.grid(last - first)
        blocks.append(_block(lay_out(tiles[part], labels[part], grid, silent), names[first:last], grid, heads, gutter))
    height = max(block.height for block in blocks)
    sheet = Sheet.blank(height, sum(block.width for block in blocks) + _GAP * (len(blocks) - 1), tiles)
    left = 0
    for block in blocks:
        sheet.paste(block, 0, left)
        left += block.width + _GAP
    return sheet


def _block(body: Sheet, names: Sequence[str], grid: Grid, heads: Sequence[str], gutter: int) -> Sheet:
    """One block: heads above, names at the left, tiles with their labels."""
    above = LINE_HEIGHT + 2 if heads else 0
    sheet = Sheet.blank(above + body.height, gutter + body.width, body.pixels[None])
    sheet.paste(body, above, gutter)
    for row, name in enumerate(names):
        top = above + grid.corner(row * grid.columns)[0]
        sheet.write(name, top + (grid.height * grid.factor - LINE_HEIGHT) // 2, gutter - width_of(name))
    for column, head in enumerate(heads):
        sheet.write(shortened(head, grid.width * grid.factor), 4, gutter + grid.corner(column)[1])
    return sheet


def head_width(heads: Sequence[str]) -> int:
    """The pixels that the widest head needs, within reason."""
    return min(_WIDEST_NAME, max((width_of(head) for head in heads), default=0))
