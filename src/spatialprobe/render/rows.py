"""Rows of tiles, each row with its name at the left, in as many blocks side by side as make a handy sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spatialprobe.render.letters import LINE_HEIGHT, shortened, width_of, write
from spatialprobe.render.sheet import Grid, Pixels, blank, lay_out

_GAP = 8  # pixels around a row's name, and between blocks
_TILE = 96  # pixels: small tiles are enlarged up to here
_LARGEST_SHEET = 1400  # pixels a side that enlarging does not exceed
_WIDEST_NAME = 160  # pixels


@dataclass(frozen=True)
class Rows:
    """Where each of `count` rows of `columns` tiles of (height, width) units goes."""

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
    tiles: Pixels, labels: Sequence[str], names: Sequence[str], rows: Rows, heads: Sequence[str] = ()
) -> Pixels:
    """Tiles (R * k, h, w) of codes or (R * k, h, w, 3) of colors, labeled, under heads and beside the rows' names."""
    gutter = max(width_of(name) for name in names) + _GAP
    blocks = []
    for first in range(0, rows.count, rows.block):
        last = min(first + rows.block, rows.count)
        part = slice(first * rows.columns, last * rows.columns)
        blocks.append(_block(tiles[part], labels[part], names[first:last], rows.grid(last - first), heads, gutter))
    height = max(len(block) for block in blocks)
    sheet = blank(height, sum(block.shape[1] for block in blocks) + _GAP * (len(blocks) - 1), tiles)
    left = 0
    for block in blocks:
        sheet[: len(block), left : left + block.shape[1]] = block
        left += block.shape[1] + _GAP
    return sheet


def _block(
    tiles: Pixels, labels: Sequence[str], names: Sequence[str], grid: Grid, heads: Sequence[str], gutter: int
) -> Pixels:
    """One block: heads above, names at the left, tiles with their labels."""
    body = lay_out(tiles, labels, grid)
    above = LINE_HEIGHT + 2 if heads else 0
    sheet = blank(above + len(body), gutter + body.shape[1], tiles)
    sheet[above:, gutter:] = body
    for row, name in enumerate(names):
        top = above + grid.corner(row * grid.columns)[0]
        write(sheet, name, top + (grid.height * grid.factor - LINE_HEIGHT) // 2, gutter - width_of(name))
    for column, head in enumerate(heads):
        write(sheet, shortened(head, grid.width * grid.factor), 4, gutter + grid.corner(column)[1])
    return sheet


def head_width(heads: Sequence[str]) -> int:
    """The pixels that the widest head needs, within reason."""
    return min(_WIDEST_NAME, max((width_of(head) for head in heads), default=0))
