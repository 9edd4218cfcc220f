"""Small still pictures of the layers, for readers without the interactive ones, and for print."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.render.maps import flat_tiles
from spatialprobe.render.marks import Marks
from spatialprobe.render.palette import LEVELS, NONFINITE, PAPER, Codes, palette
from spatialprobe.render.sheet import best_columns, hatched
from spatialprobe.report import coded_maps as coding
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.pixels import data_uri

if TYPE_CHECKING:
    from spatialprobe.report.layers import PageLayer

MOST = 64  # channels on one picture
_SIDE = 20  # units: larger maps are thinned out
_LENGTH = 96  # units: longer lines are thinned out
_GAP = 1  # pixels
_LINES = 7  # pixels between the lines over a dead map, where it is large enough


@dataclass(frozen=True)
class Still:
    """A picture, and what it shows in words."""

    picture: str  # data URI
    width: int  # pixels
    height: int
    name: str  # layer, channels and image
    words: str


def still(layer: PageLayer, image: str) -> Still:
    """The first channels of a layer for the first image, on one scale from 0 or -robust; large maps thinned out."""
    maps, signed, reach = layer.maps[0], layer.signed, layer.robust
    shown = maps.of_channels(np.arange(min(MOST, len(maps.codes))))
    lines = maps.codes.shape[1] == 1
    step = -(-max(maps.codes.shape[-2:]) // (_LENGTH if lines else _SIDE))
    tiles = _planar(_on_scale(shown, -reach if signed else 0.0, reach)[..., ::step, ::step], signed)
    extremes = shown.extremes
    marks = Marks.of(replace(extremes, units=1) if layer.is_difference else extremes)  # no change is no dead channel
    height, width = tiles.shape[1:]
    tiles[marks.dead] = hatched(height, width, max(2, min(_LINES, min(height, width) // 2)))
    sheet = _laid_out(tiles)
    counted = (
        f"{len(shown.codes)} of {len(maps.codes)} channels" if len(shown.codes) < len(maps.codes) else "all channels"
    )
    name = f"{layer.name}, {counted} for image {image}"
    words = [
        f"{name}: values {extremes.words()}.",
        *(["Colors end at the 99.5th percentile."] if reach < shown.reach.max() else []),
        *([f"One of {step} {'units' if lines else 'rows and columns of units'} is drawn."] if step > 1 else []),
        *([f"Of {maps.codes.shape[1]} slices the middle one is drawn."] if maps.codes.ndim == 4 else []),
        *marks.words(),
    ]
    return Still(data_uri(sheet, palette(signed)), sheet.shape[1], sheet.shape[0], name, " ".join(words))


def signal_picture(maps: CodedMaps) -> Still:
    """The lines of a signal's channels, one below the other, each between its own least and greatest value."""
    step = -(-maps.codes.shape[-1] // _LENGTH)
    codes = maps.codes[:, 0, ::step]
    share = np.minimum(codes.astype(np.int64) * LEVELS // (coding.STEPS + 1), LEVELS - 1)
    tiles = flat_tiles(np.where(codes == coding.NONFINITE, NONFINITE, share).astype(np.uint8), signed=False)
    sheet = tiles.reshape(-1, tiles.shape[-1])
    return Still(data_uri(sheet, palette(False)), sheet.shape[1], sheet.shape[0], "", "")


def _planar(codes: Codes, signed: bool) -> Codes:
    """Codes of maps as tiles (M, h, w): a line is drawn, of a volume the middle slice."""
    if codes.ndim == 4:
        return codes[:, codes.shape[1] // 2]
    return flat_tiles(codes[:, 0], signed=signed) if codes.shape[1] == 1 else codes


def _on_scale(maps: CodedMaps, low: float, high: float) -> Codes:
    """Palette codes of maps on one scale."""
    share = (maps.values() - low) / ((high - low) or 1.0)
    codes = np.clip(np.nan_to_num(share) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    codes[maps.codes == coding.NONFINITE] = NONFINITE
    return codes


def _laid_out(tiles: Codes) -> npt.NDArray[np.uint8]:
    """Tiles (M, h, w) on one sheet with narrow gaps."""
    count, height, width = tiles.shape
    columns = best_columns(count, height, width)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = row * (height + _GAP), column * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet
