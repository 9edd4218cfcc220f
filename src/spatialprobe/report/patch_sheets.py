"""The patches that the strongest units of each channel saw, all of one layer on one sheet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, sqrt

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.fields.box import Box
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.samples import Images
from spatialprobe.render.exemplar_checks import check_samples
from spatialprobe.render.exemplar_patches import image_of
from spatialprobe.render.images import Stretch
from spatialprobe.render.palette import PAPER, palette
from spatialprobe.render.patch import cut_patch
from spatialprobe.report.box_tables import LayerBoxes
from spatialprobe.report.pixels import Pixels, data_uri, is_lossless, scaled
from spatialprobe.statistics.exemplars import ExemplarsResult

_LARGEST = 48  # pixels: the side of a patch on the sheet
_GRAIN = 8  # pixels: JPEG codes squares of this side, and no two patches may share one


@dataclass(frozen=True, eq=False)
class Patches:
    """The pixels of each channel's exemplars, each patch in the upper left corner of a square cell."""

    cells: Pixels  # (C, k, cell, cell, 3) paper where the box leaves the image
    share: float  # of a patch's side that is kept: 1 if its pixels are stored one by one

    @property
    def cell(self) -> int:
        """The side of a cell in pixels."""
        return int(self.cells.shape[2])

    @property
    def columns(self) -> int:
        """How many cells lie beside each other on the sheet."""
        return ceil(sqrt(self.cells.shape[0] * self.cells.shape[1]))

    def sheet(self) -> str:
        """All cells in reading order, channel by channel, as a data URI."""
        flat = self.cells.reshape(-1, self.cell, self.cell, 3)
        rows = ceil(len(flat) / self.columns)
        sheet = np.full((rows * self.columns, self.cell, self.cell, 3), palette(False)[PAPER], np.uint8)
        sheet[: len(flat)] = flat
        square = sheet.reshape(rows, self.columns, self.cell, self.cell, 3).swapaxes(1, 2)
        return data_uri(np.ascontiguousarray(square.reshape(rows * self.cell, self.columns * self.cell, 3)))

    def remarks(self) -> list[str]:
        """How the patches are stored, where not pixel by pixel."""
        told = []
        if self.share < 1:
            told.append(f"Patches are shown at {self.share:.0%} of their size.")
        if not is_lossless(self.cell * self.columns, self.cell * self.columns):
            told.append("Patches are shown as JPEG.")
        return told

    def of(self, channels: npt.NDArray[np.int64], columns: int) -> Patches:
        """Those of some channels, and only the first so many of each."""
        return replace(self, cells=self.cells[channels, :columns])


def check_places(result: ExemplarsResult, field: ReceptiveField) -> None:
    """Refuse exemplars whose units the field does not have.

    Raises:
        ArgumentError: they are of another layer or of another input size.
    """
    positions = result.positions
    axes = positions.shape[-1]
    furthest = tuple(positions.amax(dim=(0, 1)).tolist()) if positions.numel() else (0,) * axes
    if axes != 2 or any(most >= size for most, size in zip(furthest, field.output_size, strict=True)):
        raise ArgumentError(
            f"The sweep's exemplars of {field.layer!r} lie at units up to {furthest}, but its maps for these images "
            f"are of {' x '.join(map(str, field.output_size))}: give images of the size that was swept."
        )


def patches_of(
    result: ExemplarsResult, field: ReceptiveField, boxes: LayerBoxes, dataset: Images, stretch: Stretch
) -> Patches:
    """The patches of one layer; each image of the data set is read once.

    Raises:
        ArgumentError: the data set holds something else than images of the field's size.
    """
    check_samples(result, dataset)
    samples = result.samples.numpy()
    wholes = _boxes_of(result, boxes, field.output_size[0])
    side = max((max(box.shape) for box in wholes.values()), default=1)
    share = min(1.0, _LARGEST / side)
    cell = -(-ceil(side * share) // _GRAIN) * _GRAIN
    cells = np.full((*samples.shape, cell, cell, 3), palette(False)[PAPER], np.uint8)
    by_sample: dict[int, list[tuple[int, int]]] = {}
    for place in wholes:
        by_sample.setdefault(int(samples[place]), []).append(place)
    for sample, places in sorted(by_sample.items()):
        pixels = stretch.pixels(image_of(dataset, sample, field))
        for place in places:
            patch = _cut_out(pixels, wholes[place], share)
            cells[place][: patch.shape[0], : patch.shape[1]] = patch
    return Patches(cells, share)


def _boxes_of(result: ExemplarsResult, boxes: LayerBoxes, height: int) -> dict[tuple[int, int], Box]:
    """(channel, rank) -> what its unit sees, without borders; no entry for an empty place, or for nothing."""
    tables = [table.boxes(height) for table in boxes.tables]
    samples, positions = result.samples.tolist(), result.positions.tolist()
    found = {}
    for channel, table in enumerate(boxes.of_channel.tolist()):
        for rank, (sample, (y, x)) in enumerate(zip(samples[channel], positions[channel], strict=True)):
            whole = Box(*tables[table][y, x, 4:].tolist())
            if sample >= 0 and all(whole.shape):
                found[channel, rank] = whole
    return found


def _cut_out(pixels: Pixels, box: Box, share: float) -> Pixels:
    """Return the pixels of a box (h, w, 3), paper outside the image, at this share of their size."""
    patch, inside = cut_patch(pixels, box)
    patch[~inside] = palette(False)[PAPER]
    if share == 1:
        return patch
    height, width = (max(1, floor(side * share + 0.5)) for side in box.shape)
    return scaled(patch, height, width)
