"""Inputs that were made to drive the channels of a layer up, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.images import Stretch
from spatialprobe.render.sheet import best_columns
from spatialprobe.report.inputs import in_color, lay_slices
from spatialprobe.report.packing import packed
from spatialprobe.report.patch_sheets import Patches, lay_out_patches
from spatialprobe.report.pixels import Pixels, shrink
from spatialprobe.synthesis.result import MaximizedActivation

Synthesis: TypeAlias = MaximizedActivation | Sequence[MaximizedActivation] | Mapping[str, MaximizedActivation]

_LARGEST = 96  # pixels: the longer side of a picture on the sheet
_AXES = ("slice", "row", "column")


@dataclass(frozen=True, eq=False)
class Synthesized:
    """What drives the channels of one layer up, and how far."""

    rows: npt.NDArray[np.int64]  # (C,): which of the n inputs is the channel's; -1: none was made
    pixels: Pixels | None  # (n, h, w, 3), what the unit sees; None: signals, and inputs without axes, are not drawn
    size: tuple[int, ...]  # pixels that the unit sees along each axis
    reached: npt.NDArray[np.float64]  # (n,)
    best_real: npt.NDArray[np.float64] | None  # (n,): the largest value of the exemplars; None: not known
    unmoved: npt.NDArray[np.bool_]  # (n,): channels that nothing moved
    unit: str | None  # which unit of the map was driven up, in words; None: the mean over all
    bounds: tuple[float, float]  # of pixels, black and white
    sheet: Patches | None = None
    wants_sheet: bool = False  # whether there was to be one, be there room for it or not

    @staticmethod
    def of(found: MaximizedActivation, channels: int) -> Synthesized:
        """Return what was found for a layer of so many channels.

        Raises:
            ArgumentError: it is of channels that the layer does not have.
        """
        numbers = found.channels.numpy()
        if len(numbers) and numbers.max() >= channels:
            raise ArgumentError(
                f"synthesized is of channel {numbers.max()} of layer {found.layer!r}, but the layer has {channels} "
                "channels here: pass what sp.maximize_activation found for this model."
            )
        rows = np.full(channels, -1)
        rows[numbers] = np.arange(len(numbers))
        return Synthesized(
            rows=rows,
            pixels=_draw(found),
            size=tuple(found.patches.shape[2:]),
            reached=found.reached.double().numpy(),
            best_real=None if found.best_real is None else found.best_real.double().numpy(),
            unmoved=found.unmoved.numpy(),
            unit=None if found.unit is None else _describe_unit(found.unit),
            bounds=found.bounds,
        )

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> Synthesized:
        """Return the same for some of the channels."""
        rows = self.rows[chosen]
        kept = rows[rows >= 0]
        return replace(
            self,
            rows=np.where(rows >= 0, np.cumsum(rows >= 0) - 1, -1),
            pixels=None if self.pixels is None else self.pixels[kept],
            reached=self.reached[kept],
            best_real=None if self.best_real is None else self.best_real[kept],
            unmoved=self.unmoved[kept],
        )

    def draw_sheet(self) -> Patches | None:
        """Return the sheet of all pictures; None where there are none."""
        return None if self.pixels is None or not len(self.pixels) else lay_out_patches(self.pixels)

    def left_out(self) -> str | None:
        """Return what of it the page does not hold, in words; None where it holds all."""
        return "no synthesized images" if self.wants_sheet and self.sheet is None else None

    def data(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        drawn = None if self.pixels is None else self.pixels.shape[1:3]
        return {
            "rows": packed(self.rows, "<i4"),
            "reached": packed(self.reached, "<f4"),
            "best": None if self.best_real is None else packed(self.best_real, "<f4"),
            "unmoved": np.flatnonzero(self.unmoved).tolist(),
            "size": self.size,
            "drawn": drawn,
            "unit": self.unit,
            "bounds": self.bounds,
            "sheet": self.sheet
            and {
                "sheet": self.sheet.sheet,
                "cell": self.sheet.cell,
                "columns": self.sheet.columns,
                "remarks": self.sheet.remarks(),
            },
        }


def _draw(found: MaximizedActivation) -> Pixels | None:
    """Return the pictures (n, h, w, 3) of images, or of volumes slice by slice, large ones smaller."""
    axes = found.patches.ndim - 2
    if axes not in (2, 3):
        return None
    stretch = Stretch(*found.bounds)
    pictures = []
    for patch in found.patches:
        values = in_color(patch)
        if axes == 3:
            values = lay_slices(values, best_columns(*values.shape[:3]))
        pictures.append(shrink(stretch.pixels(values), _LARGEST))
    return np.stack(pictures) if pictures else None


def _describe_unit(unit: tuple[int, ...]) -> str:
    """Return a position in a map in words.

    >>> _describe_unit((3, 4)), _describe_unit((7,))
    ('the unit in row 3, column 4', 'unit 7')
    """
    if len(unit) == 1:
        return f"unit {unit[0]}"
    return "the unit in " + ", ".join(f"{axis} {at}" for axis, at in zip(_AXES[-len(unit) :], unit, strict=True))
