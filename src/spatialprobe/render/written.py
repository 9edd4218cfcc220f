"""Artists of a mosaic on a page: its picture, and what is written on it as text that stays text in PDF and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage

from spatialprobe.render.letters import Label
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.palette import INK, palette

_SIZE = 6.9  # points: as wide as the letters of the picture
_ASTRAY = 0.01  # of a pixel: nearer to whole pixels a picture is copied
_BASELINE = 11.5  # pixels from the top of a label's line


class SheetImage(AxesImage):
    """A picture that is embedded as it is in a PDF or SVG, and in a raster too unless it is made smaller there.

    On a raster on which each of its pixels is one it is copied, with its own letters on it.
    """

    def __init__(self, axes: Axes, mosaic: Mosaic, *, enlarged: bool) -> None:
        height, width = mosaic.pixels.shape[:2]
        super().__init__(axes, extent=(0, width, height, 0))
        self.set_data(mosaic.unwritten())
        self._mosaic, self._enlarged = mosaic, enlarged

    def draw(self, renderer: RendererBase) -> None:
        """Draw the picture."""
        scales = self._enlarged or renderer.option_scale_image()
        self.set_interpolation("none" if scales else "antialiased")
        super().draw(renderer)

    def make_image(self, renderer: RendererBase, magnification: float = 1.0, unsampled: bool = False) -> Any:
        """Return what matplotlib draws, the picture itself where that can be copied."""
        if unsampled or magnification != 1 or not self.is_copied(renderer):
            return super().make_image(renderer, magnification, unsampled)
        whole = np.full((*self._mosaic.pixels.shape[:2], 4), 255, np.uint8)
        whole[..., :3] = self._mosaic.array[::-1]
        left, bottom = np.rint(self._corners().min(axis=0)).tolist()
        return whole, left, bottom, None

    def is_copied(self, renderer: RendererBase) -> bool:
        """Return whether each pixel of the picture is one of a raster."""
        if renderer.option_scale_image():
            return False
        corners = self._corners()
        height, width = self._mosaic.pixels.shape[:2]
        sides = np.ptp(corners, axis=0) - (width, height)
        return bool(max(abs(sides).max(), abs(corners - np.rint(corners)).max()) < _ASTRAY)

    def _corners(self) -> npt.NDArray[np.float64]:
        """Two opposite corners on the page, in pixels."""
        left, right, bottom, top = self.get_extent()
        return np.asarray(self.get_transform().transform([(left, bottom), (right, top)]))


class Lettering(Artist):
    """The labels of a mosaic: thousands of short texts, which need no layout of their own."""

    def __init__(self, labels: Sequence[Label], scale: float, picture: SheetImage) -> None:
        super().__init__()
        self._picture = picture
        self._labels = tuple(labels)
        self._font = FontProperties(size=_SIZE * scale)
        self.set_in_layout(False)
        self.set_zorder(3)

    def draw(self, renderer: RendererBase) -> None:
        """Write the labels, unless they are on the picture."""
        if not self._labels or self.axes is None or self._picture.is_copied(renderer):
            return
        _, up = renderer.get_canvas_width_height()
        places = self.axes.transData.transform([(one.left, one.top + _BASELINE) for one in self._labels])
        pen = renderer.new_gc()
        pen.set_foreground(palette(False)[INK.stop - 1] / 255)
        for label, (x, y) in zip(self._labels, places.tolist(), strict=True):
            renderer.draw_text(pen, x, up - y if renderer.flipy() else y, label.text, self._font, 0.0)
        pen.restore()
