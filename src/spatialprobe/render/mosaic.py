"""One labeled picture of many maps, as an array, a PNG or a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import check_text, shown
from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import Colors
from spatialprobe.render.png import png
from spatialprobe.render.scale import Scale
from spatialprobe.storage.files import path_of, target_of, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ColorBar:
    """The colors of the values from `low` to `high`, for a legend."""

    signed: bool
    low: float
    high: float

    @staticmethod
    def of(scale: Scale) -> ColorBar | None:
        """That of a scale which holds for all maps, None for any other."""
        return ColorBar(scale.signed, float(scale.low[0]), float(scale.high[0])) if scale.shared else None


@dataclass(frozen=True, eq=False)
class Mosaic:
    """One picture of many small maps, that can explain itself.

    `array` is the picture, `figure()` the picture with title, scale and color bar, `save()` and `to_png()` a PNG
    whose text chunks carry layer, channels, scale and value range. For TensorBoard:
    `writer.add_image(mosaic.title, mosaic.array, dataformats="HWC")`.

    >>> import torch, spatialprobe as sp
    >>> mosaic = sp.feature_maps(sp.capture(torch.nn.Conv2d(3, 6, 3), torch.rand(1, 3, 10, 10))[""])
    >>> mosaic.array.dtype, mosaic.array.shape[2], mosaic.to_png()[1:4]  # .save("maps.png"), .figure()
    (dtype('uint8'), 3, b'PNG')
    """

    pixels: npt.NDArray[np.uint8]  # (H, W) palette codes, or (H, W, 3) colors
    title: str  # what is shown
    caption: str  # how to read it: how many of how many, the scale, the marks
    color_bar: ColorBar | None = None  # None where one scale does not hold for all
    metadata: Mapping[str, str] = field(default_factory=dict)  # the text chunks of the PNG
    colors: Colors | None = None  # (256, 3) if `pixels` are codes

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8, as `SummaryWriter.add_image(..., dataformats="HWC")` takes it."""
        return self.pixels if self.colors is None else self.colors[self.pixels]

    def with_source(self, source: str) -> Mosaic:
        """The same picture, whose title and text chunks also name where the data come from.

        >>> import spatialprobe as sp, torch
        >>> mosaic = sp.kernels(torch.nn.Conv2d(3, 6, 3)).with_source("trained on CIFAR-10")
        >>> mosaic.title
        '6 kernels of 3 x 3: trained on CIFAR-10'
        """
        check_text(source, "source")
        return replace(self, title=f"{self.title}: {source}", metadata={**self.metadata, "Source": source})

    def to_png(self) -> bytes:
        """The picture as a PNG, with a palette where the colors are codes."""
        return png(self.pixels, self.colors, {"Title": self.title, "Description": self.caption, **self.metadata})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG whole or not at all, and return its path.

        Raises:
            ArgumentError: the name does not end in .png, or no file can be written there.
            StorageError: writing failed, since the disk is full, say.
        """
        target = picture_path(path, ".png")
        write_bytes(target, self.to_png())
        return target

    def figure(self, title: str | None = None) -> Figure:
        """The picture with title, caption and color bar, as a `matplotlib.figure.Figure`; pyplot is not used."""
        check_text(title, "title")
        from spatialprobe.render.figures import mosaic_figure

        return mosaic_figure(self, self.title if title is None else title)

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"{type(self).__name__}({self.title!r}, {width} x {height} pixels)"


def picture_path(path: str | os.PathLike[str], *suffixes: str) -> Path:
    """The path of a picture to be, whose folder exists and whose name ends as it should.

    Raises:
        ArgumentError: it does not.
    """
    target = path_of(path)
    if target.suffix.lower() not in suffixes:
        raise ArgumentError(
            f"This picture is saved as {' or '.join(suffixes)}, not as {shown(target.name)}; .figure() knows other "
            "formats."
        )
    return target_of(target)
