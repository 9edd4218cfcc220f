"""What the pictures of findings show, as values; drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 64


@dataclass(frozen=True, eq=False)
class MapsPicture:
    """The maps of a layer for one sample: those of the finding first, dead ones hatched."""

    maps: torch.Tensor  # (C, *units)
    channels: tuple[int, ...]
    title: str

    def __call__(self) -> Figure:
        """Return the picture on a page."""
        from spatialprobe.render.feature_maps import feature_maps

        others = [channel for channel in range(len(self.maps)) if channel not in set(self.channels)]
        shown = [*self.channels, *others][:_MOST_MAPS]
        return feature_maps(self.maps[None], channels=shown).figure(self.title)


@dataclass(frozen=True, eq=False)
class BarsPicture:
    """One value for each layer or channel, with the limit as a line; those beyond it are marked."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    marked: tuple[int, ...]  # positions of the values that the finding is about
    limits: tuple[float, ...]
    title: str
    unit: str  # what the values are
    log: bool = False

    def __call__(self) -> Figure:
        """Return the picture on a page."""
        from spatialprobe.diagnosis.drawing import draw_bars

        return draw_bars(self)


@dataclass(frozen=True, eq=False)
class GridPicture:
    """Values on a grid, such as the units of a map or pairs of channels."""

    values: npt.NDArray[np.float64]  # (H, W)
    title: str
    unit: str  # what the values are
    center: float | None = None  # the value that diverging colors are centered on; None: from low to high
    across: str = ""  # what the columns are
    down: str = ""  # what the rows are

    def __call__(self) -> Figure:
        """Return the picture on a page."""
        from spatialprobe.diagnosis.drawing import draw_grid

        return draw_grid(self)


@dataclass(frozen=True, eq=False)
class PixelsPicture:
    """An image on which some pixels are marked."""

    image: torch.Tensor  # (C, H, W)
    marked: npt.NDArray[np.bool_]  # (H, W)
    title: str
    words: str  # what the marked pixels are

    def __call__(self) -> Figure:
        """Return the picture on a page."""
        from spatialprobe.diagnosis.drawing import draw_pixels

        return draw_pixels(self)


def as_plane(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return values over one, two or three axes as a plane: a line has one row, of a volume the middle slice is taken.

    >>> as_plane(np.zeros(5)).shape, as_plane(np.zeros((3, 4, 5))).shape
    ((1, 5), (4, 5))
    """
    while values.ndim > 2:
        values = values[len(values) // 2]
    return np.atleast_2d(values)


def bars(
    names: Sequence[str],
    values: Sequence[float],
    marked: Sequence[int],
    limits: Sequence[float],
    title: str,
    unit: str,
    *,
    log: bool = False,
) -> BarsPicture:
    """Return a picture of one value for each name."""
    return BarsPicture(tuple(names), tuple(map(float, values)), tuple(marked), tuple(limits), title, unit, log)
