"""A comparison as a page: the similarity of all layers, beside the channels that changed most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from spatialprobe.arguments import check_text
from spatialprobe.comparison.result import ChangedChannel, Comparison
from spatialprobe.render.field_words import name_layer
from spatialprobe.render.figures import (
    BAR_WIDTH,
    CAPTION_FONT,
    MARGIN,
    QUIET,
    Page,
    check_width,
    place_axes,
    write_lines,
)
from spatialprobe.render.frame import framed_page
from spatialprobe.render.palette import colors, palette
from spatialprobe.render.robust import robust_reach
from spatialprobe.render.scale import choose_scale, quantize
from spatialprobe.text import escape_surrogates, format_count, quote_names

_WIDTH = 940.0  # pixels, where no other is asked for: smaller comparisons are narrower
_NARROWEST = 560.0
_LETTER = 6.2  # pixels: the width of a letter of the names
_LONGEST = 22  # letters of a layer's name
_LARGEST_CELL, _SMALLEST_NAMED = 84.0, 11.0  # pixels
_NUMBERED = 30.0  # pixels: cells of this size hold their number
_BAR_ROOM = 44.0  # pixels: bar and numbers
_GAP = 34.0  # pixels between matrix and maps
_LINE = 17.0  # pixels: of words above and below maps
_WORDS = 2 * _LINE + 8  # pixels: below the maps of a channel
_SHARE = 0.54  # of the width, for a matrix of many layers
_TILE = 104.0  # pixels: the side of a map
_BETWEEN = 12.0  # pixels between maps
_FEWEST_ROWS = 3  # channels that are shown, also where their maps are higher than the matrix

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Plan:
    """The lengths of a page, in pixels."""

    across: float
    names: float  # room for the names of layers, left of the matrix and below it
    cell: float
    tile: float  # side of a map
    rows: int  # channels that are shown

    @staticmethod
    def of(found: Comparison, width: float | None) -> _Plan:
        names = 14 + _LETTER * min(_LONGEST, max(len(name) for name in (*found.layers, *found.other_layers, "(model)")))
        around = 2 * MARGIN + names + _BAR_ROOM
        room, columns = (width or _WIDTH) - around, len(found.other_layers)
        cell = min(_LARGEST_CELL, room * (_SHARE if found.changed else 1) / columns)
        tile = min(_TILE, (room - cell * columns - _GAP - 2 * _BETWEEN) / 3)
        matrix = _LINE + cell * len(found.layers) + names
        rows = min(len(found.changed), max(_FEWEST_ROWS, int((matrix - _LINE) // (tile + _WORDS))))
        beside = _GAP + 3 * tile + 2 * _BETWEEN if rows else 0
        return _Plan(width or max(_NARROWEST, around + cell * columns + beside), names, cell, tile, rows)

    def height(self, found: Comparison) -> float:
        """The height of matrix and maps, with their words."""
        matrix = _LINE + self.cell * len(found.layers) + self.names
        return max(matrix, _LINE + self.rows * (self.tile + _WORDS))


def draw_comparison(found: Comparison, title: str | None, width: float | None, dpi: float | None) -> Page:
    """Return the page of a comparison.

    Raises:
        ArgumentError: `title` is not a text, or `width` or `dpi` are out of range.
    """
    check_text(title, "title")
    across = check_width(width)
    plan = _Plan.of(found, None if across is None else max(across, _NARROWEST))
    own = f"{found.model} beside {found.other}, {format_count(found.n, 'sample')}"
    page = framed_page(own if title is None else title, _words(found), plan.across, plan.height(found) + MARGIN, dpi)
    left = MARGIN + plan.names
    _draw_matrix(page.figure, found, plan, left, page.top)
    beside = left + plan.cell * len(found.other_layers) + _BAR_ROOM + _GAP
    _draw_changes(page.figure, found, plan, beside, page.top)
    return page.figure


def _words(found: Comparison) -> str:
    """Return the caption."""
    errors = found.standard_error[found.standard_error.isfinite()]
    error = f"; the largest standard error is {float(errors.max()):.2g}" if len(errors) else ""
    words = ["Similarity: linear CKA of each layer of one (rows) with each of the other (columns)" + error + "."]
    constant = (("row", found.constant), ("column", found.other_constant))
    named = [f"{format_count(len(layers), line)} {quote_names(layers)}" for line, layers in constant if layers]
    if named:
        words.append(f"Constant, and so similar to nothing: {'; '.join(named)}.")
    if found.changed:
        words.append(
            "Maps: the channels that changed most, on one sample; both maps of a row have one scale. Drift: the root "
            "mean square difference over all samples, in standard deviations of the channel in the first model."
        )
    return " ".join(words)


def _draw_matrix(figure: Figure, found: Comparison, plan: _Plan, left: float, top: float) -> None:
    """Draw the similarities, with the names of the layers and a bar of colors."""
    rows, columns = found.cka.shape
    high, wide = plan.cell * rows, plan.cell * columns
    axes = place_axes(figure, left, top - _LINE - high, wide, high)
    values = found.cka.numpy()
    shades = ListedColormap(colors(False) / 255)
    shown = axes.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="none")
    step = int(np.ceil(_SMALLEST_NAMED / plan.cell))
    axes.set_yticks(range(0, rows, step), [_short(name) for name in found.layers[::step]])
    axes.set_xticks(range(0, columns, step), [_short(name) for name in found.other_layers[::step]], rotation=90)
    axes.tick_params(labelsize=CAPTION_FONT.get_size_in_points(), length=0, pad=4)
    axes.spines[:].set_visible(False)
    if plan.cell >= _NUMBERED:
        _write_numbers(axes, values)
    bar = place_axes(figure, left + wide + 10, top - _LINE - max(high, 80.0), BAR_WIDTH * 0.7, max(high, 80.0))
    scale = figure.colorbar(shown, cax=bar)
    scale.set_ticks([0, 0.5, 1])
    scale.outline.set_visible(False)
    bar.tick_params(labelsize=CAPTION_FONT.get_size_in_points(), length=2, color=QUIET, labelcolor=QUIET)
    _write(figure, left, top, "similarity", QUIET)


def _write_numbers(axes: Axes, values: _Values) -> None:
    """Write each similarity into its cell."""
    size = CAPTION_FONT.get_size_in_points() - 0.5
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > 0.6 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, size=size)


def _draw_changes(figure: Figure, found: Comparison, plan: _Plan, left: float, top: float) -> None:
    """Draw the maps of the channels that changed most in both models, and their difference, a row for each."""
    for column, name in enumerate(("one", "other", "difference") if plan.rows else ()):
        _write(figure, left + column * (plan.tile + _BETWEEN), top, name, QUIET)
    for row, change in enumerate(found.changed[: plan.rows]):
        upper = top - _LINE - row * (plan.tile + _WORDS)
        drift = "constant in one" if np.isinf(change.drift) else f"drift {change.drift:.2f}"
        tiles, scales = _tiles(change)
        for column, pixels in enumerate(tiles):
            start = left + column * (plan.tile + _BETWEEN)
            axes = place_axes(figure, start, upper - plan.tile, plan.tile, plan.tile)
            axes.imshow(pixels, interpolation="none")
            axes.set_axis_off()
        below = f"{_short(name_layer(change.layer), 30)}, channel {change.channel}: {drift}"
        _write(figure, left, upper - plan.tile - 2, below)
        _write(figure, left, upper - plan.tile - _LINE + 1, scales, QUIET)


def _tiles(change: ChangedChannel) -> tuple[list[npt.NDArray[np.uint8]], str]:
    """Return the pixels of both maps and of their difference, and the words for their scales."""
    both = np.stack([change.one.double().numpy(), change.other.double().numpy()])
    scale = choose_scale(both, "robust")
    maps = [palette(scale.signed)[codes] for codes in quantize(both, scale)]
    difference = (both[1] - both[0])[None]
    reach = robust_reach(difference)[0] or 1.0
    maps.append(palette(True)[quantize(difference, choose_scale(difference, (-reach, reach)))[0]])
    low, high = scale.ends()
    return maps, f"maps {low} to {high}, difference ±{reach:.3g}"


def _write(figure: Figure, left: float, top: float, words: str, color: str = "black") -> None:
    write_lines(figure, [escape_surrogates(words)], top, CAPTION_FONT, color, left=left)


def _short(name: str, longest: int = _LONGEST) -> str:
    """Return a layer's name, or its end where it is long."""
    name = escape_surrogates(name or "(model)")
    return name if len(name) <= longest else f"…{name[1 - longest :]}"
