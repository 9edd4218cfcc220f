"""A statistic over training steps as a page: a line for each layer, and below a heat map, layers by steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spatialprobe.render.figures import (
    BAR_ROOM,
    BAR_WIDTH,
    CAPTION_FONT,
    MARGIN,
    QUIET,
    Page,
    check_width,
    place_axes,
    text_width,
)
from spatialprobe.render.frame import framed_page
from spatialprobe.render.palette import colors
from spatialprobe.text import escape_surrogates

Floats = npt.NDArray[np.float64]

_WIDTH = 760  # pixels, where no other is asked for
_NARROWEST = 420  # pixels: room for names, axes and the bar
_LINES = 210  # pixels
_ROW = 18  # pixels: a layer's row of colors
_LOWEST, _MOST_ROWS = 80, 640  # pixels
_MOST_NAMES = 36  # layers whose names stand beside the rows
_LONGEST = 24  # characters of a name, of which the end is kept
_AXIS_ROOM = 44  # pixels: numbers and name of the axis of steps
_NUMBERS = 52  # pixels: numbers of the axis of values
_WIDE = 30.0  # times the least value: from there the scale is logarithmic
_SHADES = (0.02, 0.82)  # of the color map, dark to light, for the lines of the first to the last layer
_LINE = "#d9d9e2"


def history_figure(
    table: Floats,
    steps: Sequence[int],
    layers: Sequence[str],
    statistic: str,
    title: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
) -> Page:
    """Return the page of a table (steps, layers); NaN are gaps."""
    across = max(check_width(width) or _WIDTH, _NARROWEST)
    norm, words = _scale(table)
    names = [_shorten(name) for name in layers]
    left = MARGIN + max(_NUMBERS, 26 + max(text_width(name, CAPTION_FONT) for name in names))
    wide = across - left - BAR_ROOM - MARGIN
    rows = float(min(max(_ROW * len(layers), _LOWEST), _MOST_ROWS))
    own = f"{statistic} while training" if title is None else title
    page = framed_page(own, words, across, _AXIS_ROOM + rows + MARGIN + _LINES, dpi)
    figure, below = page.figure, page.bottom + _AXIS_ROOM
    _draw_lines(place_axes(figure, left, below + rows + MARGIN, wide, _LINES), table, steps, norm)
    heat = place_axes(figure, left, below, wide, rows)
    _draw_heat(figure, heat, place_axes(figure, left + wide + MARGIN, below, BAR_WIDTH, rows), table, steps, norm)
    _name_rows(heat, names)
    return figure


def _scale(table: Floats) -> tuple[Normalize, str]:
    """Return the scale of the colors and of the axis of values, and the words for it."""
    known = table[np.isfinite(table)]
    words = "The mean over the channels of each layer; a row of colors is the line of the same shade, and gray a gap."
    if not known.size:
        return Normalize(0, 1), words
    low, high = float(known.min()), float(known.max())
    if low < 0:
        end = max(-low, high)
        return Normalize(-end, end), words
    if low > 0 and high > _WIDE * low:
        return LogNorm(low, high), f"{words} Values and colors are on a logarithmic scale."
    return Normalize(0, high or 1), words


def _draw_lines(axes: Axes, table: Floats, steps: Sequence[int], norm: Normalize) -> None:
    """A line for each layer, from dark to light with its depth."""
    for values, shade in zip(table.T, _shades(table.shape[1]), strict=True):
        marker = "o" if len(steps) < 12 else None
        axes.plot(steps, values, color=shade, linewidth=1.6, marker=marker, markersize=3, solid_capstyle="round")
    low, high = float(norm.vmin or 0), float(norm.vmax or 1)
    if isinstance(norm, LogNorm):
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
    else:
        known = table[np.isfinite(table)]
        low = min(0.0, float(known.min())) if known.size else 0.0
        axes.set_ylim(low * 1.06, high * 1.06)
    axes.set_xlim(*_ends(steps))
    axes.tick_params(labelbottom=False, length=2)
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _style(axes)


def _draw_heat(figure: Figure, axes: Axes, bar: Axes, table: Floats, steps: Sequence[int], norm: Normalize) -> None:
    """The same values as colors, a row for each layer."""
    signed = float(norm.vmin or 0) < 0
    shades = ListedColormap(colors(signed) / 255).with_extremes(bad=_LINE)
    lines = np.arange(table.shape[1] + 1) - 0.5
    masked = np.ma.masked_invalid(table.T)
    mesh = axes.pcolormesh(_edges(steps), lines, masked, cmap=shades, norm=norm, rasterized=True)
    figure.colorbar(mesh, cax=bar)
    axes.invert_yaxis()
    axes.set_xlim(*_ends(steps))
    marks = MaxNLocator(8, integer=True).tick_values(steps[0], steps[-1])
    axes.set_xticks([mark for mark in marks if steps[0] <= mark <= steps[-1]])
    axes.set_xlabel("step", font=CAPTION_FONT, color=QUIET)
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)
    bar.spines[:].set_visible(False)
    for part in (axes, bar):
        _style(part)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The names of the layers, each with the shade of its line."""
    every = -(-len(names) // _MOST_NAMES)
    axes.set_yticks(np.arange(0, len(names), every), names[::every])
    axes.tick_params(axis="y", length=0, pad=16)
    for row, shade in enumerate(_shades(len(names))):
        if row % every == 0:
            axes.plot(
                [-12 / axes.get_window_extent().width, -4 / axes.get_window_extent().width],
                [row, row],
                color=shade,
                linewidth=2.4,
                transform=axes.get_yaxis_transform(),
                clip_on=False,
                solid_capstyle="butt",
            )


def _shades(count: int) -> list[tuple[float, ...]]:
    """Return a color for each layer, dark to light."""
    table = colors(False) / 255
    places = np.linspace(*_SHADES, count) if count > 1 else np.array([0.3])
    return [tuple(table[round(place * (len(table) - 1))]) for place in places]


def _edges(steps: Sequence[int]) -> Floats:
    """Return where the columns begin and end: in the middle between steps."""
    places = np.asarray(steps, float)
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middles = (places[1:] + places[:-1]) / 2
    first, last = places[0] - (middles[0] - places[0]), places[-1] + (places[-1] - middles[-1])
    return np.array([first, *middles, last])


def _ends(steps: Sequence[int]) -> tuple[float, float]:
    edges = _edges(steps)
    return float(edges[0]), float(edges[-1])


def _style(axes: Axes) -> None:
    axes.tick_params(labelsize=CAPTION_FONT.get_size_in_points(), color=QUIET, labelcolor=QUIET)


def _shorten(name: str) -> str:
    text = escape_surrogates(name).replace("$", r"\$")
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"
