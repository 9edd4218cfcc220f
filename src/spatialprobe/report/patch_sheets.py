"""The patches that the strongest units of each channel saw, all of one layer on one sheet, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.fields.box import Box
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.render.palette import PAPER, palette
from spatialprobe.render.patch import cut_patch
from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.exemplar_images import ExemplarImages
from spatialprobe.report.pixels import Pixels, data_uri
from spatialprobe.statistics.exemplars import ExemplarsResult

Places = npt.NDArray[np.int64]

LARGEST = 48  # pixels: the side of a patch on a sheet; what is larger is cut from the whole image by the page
_GRAIN = 8  # pixels: JPEG codes squares of this side, and no two patches may share one


@dataclass(frozen=True)
class Patches:
    """A sheet with each patch in the upper left corner of a cell, channel by channel."""

    sheet: str  # data URI
    cell: int  # pixels: the width of a cell
    tall: int  # pixels: its height
    columns: int  # cells beside each other on the sheet
    axes: int = 2  # of the input: the lines of a signal fill their cell, of a volume a slice is there
    every: int = 1  # only every n-th row and column of each patch is there

    def remarks(self) -> list[str]:
        """Return the sentences that say what of the input patches are, and how they are stored."""
        what = {
            1: ["Lines run between the least and the greatest value of this layer's patches."],
            3: ["Of each volume the slice through the middle of what the unit sees, z its number."],
        }
        thinned = [f"One of {self.every} rows and columns is shown."] if self.every > 1 else []
        lossy = ["Patches are shown as JPEG."] if self.sheet.startswith("data:image/jpeg") else []
        return [*what.get(self.axes, []), *thinned, *lossy]


@dataclass(frozen=True)
class Sight:
    """What a unit sees of a sample: rows and columns, without borders, and of a volume the slice in the middle."""

    box: Box
    slice: int


def check_places(result: ExemplarsResult, field: ReceptiveField) -> None:
    """Refuse exemplars whose units the field does not have.

    Raises:
        ArgumentError: they are of another layer or of another input size.
    """
    positions = result.positions
    axes = positions.shape[-1]
    furthest = tuple(positions.amax(dim=(0, 1)).tolist()) if positions.numel() else (0,) * axes
    units = field.output_size
    if axes != len(units) or any(most >= size for most, size in zip(furthest, units, strict=True)):
        raise ArgumentError(
            f"The sweep's exemplars of {field.layer!r} lie at units up to {furthest}, but its maps for these images "
            f"are of {' x '.join(map(str, field.output_size))}: pass images of the size that was swept."
        )


def largest_side(places: Places, boxes: LayerBoxes) -> int:
    """Return the longest side in pixels of what the units at places see, borders left out."""
    return _longest(sights_of(places, boxes))


def _longest(sights: Mapping[tuple[int, int], Sight]) -> int:
    return max((max(sight.box.shape) for sight in sights.values()), default=1)


def patches_of(places: Places, boxes: LayerBoxes, images: ExemplarImages) -> Patches:
    """Return the sheet of the patches of images at places (C, k, 3), or of volumes at places (C, k, 4).

    Raises:
        ArgumentError: the data set holds something else than images of the model's size.
    """
    sights = sights_of(places, boxes)
    side = _longest(sights)
    every = -(-side // LARGEST) if images.axes == 3 else 1
    cell = -(-side // (every * _GRAIN)) * _GRAIN
    paper = palette(False)[PAPER]
    cells = np.full((*places.shape[:2], cell, cell, 3), paper, np.uint8)
    for sample, found in by_sample(places, sights):
        pixels = images.pixels(sample)
        for place in found:
            sight = sights[place]
            patch, inside = cut_patch(pixels[sight.slice] if images.axes == 3 else pixels, sight.box, every=every)
            patch[~inside] = paper
            cells[place][: patch.shape[0], : patch.shape[1]] = patch
    uri, columns = lay_out(cells)
    return Patches(uri, cell, cell, columns, images.axes, every)


def lay_out_patches(patches: Pixels) -> Patches:
    """Return the sheet of patches (n, h, w, 3), one after the other."""
    count, height, width = patches.shape[:3]
    cell = -(-max(height, width) // _GRAIN) * _GRAIN
    cells = np.full((count, 1, cell, cell, 3), palette(False)[PAPER], np.uint8)
    cells[:, 0, :height, :width] = patches
    uri, columns = lay_out(cells)
    return Patches(uri, cell, cell, columns)


def lay_out(cells: Pixels, colors: Pixels | None = None) -> tuple[str, int]:
    """Return one sheet as a data URI, as square as it can be, and its columns.

    Args:
        cells: (C, k, h, w, 3), or codes (C, k, h, w).
        colors: the palette of codes.
    """
    height, width = cells.shape[2:4]
    flat = cells.reshape(-1, *cells.shape[2:])
    columns = max(1, ceil(sqrt(len(flat) * height / width)))
    rows = max(1, ceil(len(flat) / columns))
    sheet = np.full((rows * columns, *cells.shape[2:]), palette(False)[PAPER] if colors is None else PAPER, np.uint8)
    sheet[: len(flat)] = flat
    square = sheet.reshape(rows, columns, *cells.shape[2:]).swapaxes(1, 2)
    pixels = np.ascontiguousarray(square.reshape(rows * height, columns * width, *cells.shape[4:]))
    return data_uri(pixels, colors), columns


def by_sample(places: Places, sights: Mapping[tuple[int, int], Sight]) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return the channels and ranks of each sample, so that each is read once."""
    found: dict[int, list[tuple[int, int]]] = {}
    for place in sights:
        found.setdefault(int(places[place][0]), []).append(place)
    return sorted(found.items())


def sights_of(places: Places, boxes: LayerBoxes) -> dict[tuple[int, int], Sight]:
    """(channel, rank) -> what its unit sees; no entry for an empty place, or for nothing."""
    tables = [table.boxes() for table in boxes.tables]
    found = {}
    for channel, table in enumerate(boxes.of_channel.tolist()):
        each = tables[table].reshape(-1, *tables[table].shape[-3:])  # (d, h, w, numbers)
        for rank, (sample, y, x, *z) in enumerate(places[channel].tolist()):
            numbers = each[z[0] if z else 0, y, x].tolist()
            whole = Box(*numbers[4:8])
            if sample >= 0 and all(whole.shape):
                found[channel, rank] = Sight(whole, (numbers[8] + numbers[9] - 1) // 2 if len(numbers) > 8 else 0)
    return found
