"""The patches that the strongest units of each channel saw, all of one layer on one sheet, pixel by pixel."""

from __future__ import annotations

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

LARGEST = 48  # pixels: the side of a patch on a sheet; what is larger is cut from the whole image by the page
_GRAIN = 8  # pixels: JPEG codes squares of this side, and no two patches may share one


@dataclass(frozen=True)
class Patches:
    """A sheet with each patch in the upper left corner of a square cell, channel by channel."""

    sheet: str  # data URI
    cell: int  # pixels: the side of a cell
    columns: int  # cells beside each other on the sheet

    def remarks(self) -> list[str]:
        """Return the sentences that say how patches are stored, where not pixel by pixel."""
        return ["Patches are shown as JPEG."] if self.sheet.startswith("data:image/jpeg") else []


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


def largest_side(places: npt.NDArray[np.int64], boxes: LayerBoxes) -> int:
    """Return the longest side in pixels of what the units at places (C, k, 3) see, borders left out."""
    sides = [max(box.shape) for box in _boxes_of(places, boxes).values()]
    return max(sides, default=1)


def patches_of(places: npt.NDArray[np.int64], boxes: LayerBoxes, images: ExemplarImages) -> Patches:
    """Return the sheet of the patches at places (C, k, 3).

    Raises:
        ArgumentError: the data set holds something else than images of the model's size.
    """
    wholes = _boxes_of(places, boxes)
    side = max((max(box.shape) for box in wholes.values()), default=1)
    cell = -(-side // _GRAIN) * _GRAIN
    paper = palette(False)[PAPER]
    cells = np.full((*places.shape[:2], cell, cell, 3), paper, np.uint8)
    by_sample: dict[int, list[tuple[int, int]]] = {}
    for place in wholes:
        by_sample.setdefault(int(places[place][0]), []).append(place)
    for sample, found in sorted(by_sample.items()):
        pixels = images.pixels(sample)
        for place in found:
            patch, inside = cut_patch(pixels, wholes[place])
            patch[~inside] = paper
            cells[place][: patch.shape[0], : patch.shape[1]] = patch
    return _lay_out(cells)


def lay_out_patches(patches: Pixels) -> Patches:
    """Return the sheet of patches (n, h, w, 3), one after the other."""
    count, height, width = patches.shape[:3]
    cell = -(-max(height, width) // _GRAIN) * _GRAIN
    cells = np.full((count, 1, cell, cell, 3), palette(False)[PAPER], np.uint8)
    cells[:, 0, :height, :width] = patches
    return _lay_out(cells)


def _lay_out(cells: Pixels) -> Patches:
    """Return the cells (C, k, cell, cell, 3) on one sheet, as square as they can be."""
    cell = cells.shape[2]
    flat = cells.reshape(-1, cell, cell, 3)
    columns = max(1, ceil(sqrt(len(flat))))
    rows = max(1, ceil(len(flat) / columns))
    sheet = np.full((rows * columns, cell, cell, 3), palette(False)[PAPER], np.uint8)
    sheet[: len(flat)] = flat
    square = sheet.reshape(rows, columns, cell, cell, 3).swapaxes(1, 2)
    return Patches(data_uri(np.ascontiguousarray(square.reshape(rows * cell, columns * cell, 3))), cell, columns)


def _boxes_of(places: npt.NDArray[np.int64], boxes: LayerBoxes) -> dict[tuple[int, int], Box]:
    """(channel, rank) -> what its unit sees, without borders; no entry for an empty place, or for nothing."""
    tables = [table.boxes() for table in boxes.tables]
    found = {}
    for channel, table in enumerate(boxes.of_channel.tolist()):
        for rank, (sample, y, x) in enumerate(places[channel].tolist()):
            whole = Box(*tables[table][y, x, 4:].tolist())
            if sample >= 0 and all(whole.shape):
                found[channel, rank] = whole
    return found
