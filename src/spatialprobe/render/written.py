"""Artists of a mosaic on a page: its picture, and what is written on it as text that stays text in PDF and SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage

from spatialprobe.render.letters import Label
from spatialprobe.render.palette import INK, palette

_SIZE = 6.9  # points: as wide as the letters of the picture
_BASELINE = 11.5  # pixels from the top of a label's line


class SheetImage(AxesImage):
    """A picture that is embedded as it is in a PDF or SVG, and in a raster too unless it is made smaller there."""

    def __init__(self, axes: Axes, pixels: npt.NDArray[np.uint8], *, enlarged: bool) -> None:
        height, width = pixels.shape[:2]
        super().__init__(axes, extent=(0, width, height, 0))
        self.set_data(pixels)
        self._enlarged = enlarged

    def draw(self, renderer: RendererBase) -> None:
        """Draw the picture."""
        scales = self._enlarged or renderer.option_scale_image()
        self.set_interpolation("none" if scales else "antialiased")
        super().draw(renderer)


class Lettering(Artist):
    """The labels of a mosaic: thousands of short texts, which need no layout of their own."""

    def __init__(self, labels: Sequence[Label], scale: float) -> None:
        super().__init__()
        self._labels = tuple(labels)
        self._font = FontProperties(size=_SIZE * scale)
        self.set_in_layout(False)
        self.set_zorder(3)

    def draw(self, renderer: RendererBase) -> None:
        """Write the labels."""
        if not self._labels or self.axes is None:
            return
        _, up = renderer.get_canvas_width_height()
        places = self.axes.transData.transform([(one.left, one.top + _BASELINE) for one in self._labels])
        pen = renderer.new_gc()
        pen.set_foreground(palette(False)[INK.stop - 1] / 255)
        for label, (x, y) in zip(self._labels, places.tolist(), strict=True):
            renderer.draw_text(pen, x, up - y if renderer.flipy() else y, label.text, self._font, 0.0)
        pen.restore()
