"""One labeled picture of many maps, as an array, a PNG or a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import check_text
from spatialprobe.render.letters import LINE_HEIGHT, Label
from spatialprobe.render.palette import PAPER, Colors, palette
from spatialprobe.render.picture import Picture
from spatialprobe.render.png import png
from spatialprobe.render.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ColorBar:
    """The colors of the values from `low` to `high`, for a legend."""

    signed: bool
    low: float
    high: float
    ends: tuple[str, str]  # the numbers there, with "≤" or "≥" where values lie beyond

    @staticmethod
    def of(scale: Scale) -> ColorBar | None:
        """Return the color bar of a scale that holds for all maps, None for any other."""
        if not scale.shared:
            return None
        return ColorBar(scale.signed, float(scale.low[0]), float(scale.high[0]), scale.ends())


@dataclass(frozen=True, eq=False)
class Mosaic(Picture):
    """One picture of many small maps, that can explain itself.

    `array` is the picture, `figure()` the page with title, caption and color bar, `save()` writes that page, and
    `to_png()` returns the picture alone. Text chunks of both PNGs carry layer, channels, scale and value range. For
    TensorBoard:
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
    labels: tuple[Label, ...] = ()  # what is written on the picture, which a figure writes as text

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8, as `SummaryWriter.add_image(..., dataformats="HWC")` takes it."""
        return self.pixels if self.colors is None else self.colors.take(self.pixels, axis=0)

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
        """The picture as a PNG without title and caption, with a palette where the colors are codes."""
        return png(self.pixels, self.colors, self._text_chunks())

    def unwritten(self, *, codes: bool = False) -> npt.NDArray[np.uint8]:
        """Return `array`, or `pixels` where `codes` are asked for, without the letters of the labels."""
        pixels = self.pixels.copy()
        paper = PAPER if pixels.ndim == 2 else palette(False)[PAPER]
        for label in self.labels:
            pixels[label.top : label.top + LINE_HEIGHT, label.left : label.left + label.width] = paper
        return pixels if codes or self.colors is None else self.colors.take(pixels, axis=0)

    def _draw(self, title: str, width: float | None, dpi: float | None) -> Figure:
        from spatialprobe.render.figures import mosaic_figure

        return mosaic_figure(self, title, width, dpi)

    def _repr_html_(self) -> str:
        from spatialprobe.render.inline import mosaic_html

        return mosaic_html(self)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"{type(self).__name__}({self.title!r}, {width} x {height} pixels)"
