"""Mosaics as matplotlib figures; the only file that imports matplotlib, and never pyplot."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from spatialprobe.render.mosaic import ColourBar, Mosaic
from spatialprobe.render.palette import colours

_DPI = 100
_MARGIN = 14  # pixels
_BAR_ROOM = 90  # pixels right of the mosaic: bar, ticks and numbers
_BAR_WIDTH = 16  # pixels
_NARROWEST = 460  # pixels: room for words below a small mosaic
_TITLE_LINE = 20  # pixels
_CAPTION_LINE = 15  # pixels
_TITLE_POINTS, _CAPTION_POINTS = 10.5, 8.0
_TITLE_LETTER, _CAPTION_LETTER = 7.8, 5.7  # pixels, the mean width of a letter


def mosaic_figure(mosaic: Mosaic, title: str) -> Figure:
    """The mosaic pixel for pixel at 100 dpi, title above, caption below, colour bar at the right if it has one."""
    height, width = mosaic.pixels.shape[:2]
    bar_room = _BAR_ROOM if mosaic.colour_bar else 0
    full_width = max(_NARROWEST, width + bar_room + 2 * _MARGIN)
    head = _wrapped(title, full_width, _TITLE_LETTER)
    foot = _wrapped(mosaic.caption, full_width, _CAPTION_LETTER)
    above = _MARGIN + _TITLE_LINE * len(head) + (6 if head else 0)
    below = _MARGIN + _CAPTION_LINE * len(foot) + 6
    full_height = above + height + below
    figure = Figure(figsize=(full_width / _DPI, full_height / _DPI), dpi=_DPI, facecolor="white")
    left = (full_width - width - bar_room) // 2
    axes = figure.add_axes((left / full_width, below / full_height, width / full_width, height / full_height))
    axes.imshow(mosaic.array, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    margin = _MARGIN / full_width
    figure.text(margin, 1 - _MARGIN / full_height, "\n".join(head), va="top", size=_TITLE_POINTS, weight="bold")
    figure.text(margin, _MARGIN / full_height, "\n".join(foot), va="bottom", size=_CAPTION_POINTS, color="#404048")
    if mosaic.colour_bar:
        bar = figure.add_axes(
            (
                (left + width + _MARGIN) / full_width,
                (below + 0.04 * height) / full_height,
                _BAR_WIDTH / full_width,
                0.88 * height / full_height,
            )
        )
        _draw_bar(figure, bar, mosaic.colour_bar)
    return figure


def _draw_bar(figure: Figure, axes: Axes, bar: ColourBar) -> None:
    """The colours of the values with numbers beside them."""
    shades = ListedColormap(colours(bar.signed) / 255)
    figure.colorbar(ScalarMappable(Normalize(bar.low, bar.high), shades), cax=axes)
    axes.tick_params(labelsize=_CAPTION_POINTS)


def _wrapped(words: str, width: int, letter: float) -> list[str]:
    """Lines that fit the width."""
    return textwrap.wrap(words, max(20, int((width - 2 * _MARGIN) / letter)))
