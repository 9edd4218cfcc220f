"""A histogram as a page: all values as a curve, below it a row of colors for each channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from spatialprobe.render.figures import (
    BAR_ROOM,
    BAR_WIDTH,
    CAPTION_FONT,
    MARGIN,
    Page,
    check_width,
    place_axes,
)
from spatialprobe.render.frame import framed_page
from spatialprobe.render.histogram import ActivationHistogram
from spatialprobe.render.palette import colors

_WIDTH = 720  # pixels, where no other is asked for
_NARROWEST = 320  # pixels: room for both axes and the bar
_CURVE = 170  # pixels
_ROW = 12  # pixels: a channel's row of colors
_LOWEST = 90  # pixels: rows of few channels are higher
_MOST_ROWS = 640  # pixels: where there are more channels, their rows are lower
_MOST_NUMBERS = 40  # channel numbers beside the rows
_STEPS = [mantissa * 10**power for power in range(9) for mantissa in (1, 2, 5)]  # between the numbers
_AXIS_ROOM = 46  # pixels: numbers and name of an axis


def histogram_figure(
    histogram: ActivationHistogram, title: str, width: float | None = None, dpi: float | None = None
) -> Page:
    """All values as a curve, below it a row of colors for each channel, on one axis of values."""
    across = max(check_width(width) or _WIDTH, _NARROWEST)
    rows = min(max(_ROW * len(histogram.counts), _LOWEST), _MOST_ROWS)
    page = framed_page(title, histogram.caption, across, _AXIS_ROOM + rows + MARGIN + _CURVE, dpi)
    figure, below = page.figure, page.bottom + _AXIS_ROOM
    left, wide = _AXIS_ROOM + MARGIN, across - _AXIS_ROOM - BAR_ROOM - 2 * MARGIN
    _draw_curve(place_axes(figure, left, below + rows + MARGIN, wide, _CURVE), histogram)
    channels = place_axes(figure, left, below, wide, rows)
    _draw_rows(figure, channels, place_axes(figure, left + wide + MARGIN, below, BAR_WIDTH, rows), histogram)
    return figure


def _draw_curve(axes: Axes, histogram: ActivationHistogram) -> None:
    """The share of all values in each bin."""
    counts = histogram.counts.sum(axis=0)
    shares = counts / max(1, counts.sum() + histogram.outside.sum())
    axes.set_autoscale_on(False)  # where no value is finite there is nothing to scale to
    axes.stairs(shares, histogram.edges, fill=True, color="#8a8fb5")
    axes.stairs(shares, histogram.edges, color="#2b2f5e", baseline=None)
    axes.set_yscale("log")
    axes.set_ylim(_floor(shares), 1.5)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    axes.set_ylabel("share of all", font=CAPTION_FONT)
    axes.tick_params(labelsize=CAPTION_FONT.get_size_in_points(), labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_rows(figure: Figure, axes: Axes, bar: Axes, histogram: ActivationHistogram) -> None:
    """The share of each channel's values in each bin, as colors on a logarithmic scale."""
    shades = ListedColormap(colors(False) / 255).with_extremes(bad="white")
    shares = np.ma.masked_equal(histogram.shares, 0)
    scale = LogNorm(_floor(histogram.shares), 1)
    lines = np.arange(len(shares) + 1) - 0.5
    mesh = axes.pcolormesh(histogram.edges, lines, shares, cmap=shades, norm=scale, rasterized=True)
    figure.colorbar(mesh, cax=bar).set_label("share of the channel", font=CAPTION_FONT)
    axes.invert_yaxis()
    step = next(step for step in _STEPS if len(shares) <= step * _MOST_NUMBERS)
    axes.set_yticks(np.arange(0, len(shares), step), [str(channel) for channel in histogram.channels[::step]])
    axes.set_ylabel("channel", font=CAPTION_FONT)
    axes.set_xlabel("value", font=CAPTION_FONT)
    for part in (axes, bar):
        part.tick_params(labelsize=CAPTION_FONT.get_size_in_points())


def _floor(shares: npt.NDArray[np.float64]) -> float:
    """Return the start of a logarithmic scale of shares: the power of ten below the least that is not zero."""
    least = shares[shares > 0].min(initial=0.01)
    return float(10.0 ** np.floor(np.log10(least)))
