"""The pictures of findings, drawn with matplotlib; the colors are those of all pictures of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.colors import ListedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from spatialprobe.render.figures import MARGIN, QUIET, TITLE_FONT, UNIT, Page, wrapped
from spatialprobe.render.images import Stretch, extremes_of, image_values
from spatialprobe.render.palette import colors
from spatialprobe.text import escape_surrogates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from spatialprobe.diagnosis.pictures import BarsPicture, GridPicture, PixelsPicture

_PLAIN, _MARKED = "#8d8d9b", "#e10f5a"  # gray, and the crimson of all marks
_MOST_NAMES = 40
_SMALL = 8  # points


def draw_bars(picture: BarsPicture) -> Figure:
    """Return one bar for each name; those of the finding are crimson, and limits are dashed lines."""
    names, values = picture.names, np.array(picture.values)
    named = len(names) <= _MOST_NAMES
    figure = Page(figsize=(7.2, max(1.5, 0.9 + 0.22 * len(names)) if named else 4.0), layout="constrained")
    axes = figure.add_subplot()
    shades = [_MARKED if at in set(picture.marked) else _PLAIN for at in range(len(names))]
    places = np.arange(len(names))
    if named:
        axes.barh(places, values, color=shades, height=0.72 if len(names) > 2 else 0.4)
        axes.set_yticks(places, [escape_surrogates(name) for name in names], parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(picture.unit)
        for limit in picture.limits:
            axes.axvline(limit, color=QUIET, linestyle="--", linewidth=1)
        if picture.log:
            axes.set_xscale("log")
    else:
        axes.bar(places, values, color=shades, width=1.0)
        axes.set_ylabel(picture.unit)
        for limit in picture.limits:
            axes.axhline(limit, color=QUIET, linestyle="--", linewidth=1)
        if picture.log:
            axes.set_yscale("log")
    _finish(figure, axes, picture.title)
    for at in picture.marked if named else ():
        axes.get_yticklabels()[at].set(color=_MARKED, weight="bold")  # a bar of zero has no color to see
    return figure


def draw_grid(picture: GridPicture) -> Figure:
    """Return values as squares of color, with a bar of numbers; what is not finite is crimson."""
    values = picture.values
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    height = min(6.0, max(1.8, 1.1 + 4.6 * values.shape[0] / max(values.shape)))
    figure = Page(figsize=(6.2, height), layout="constrained")
    axes = figure.add_subplot()
    flat = values.shape[0] == 1
    aspect: Literal["auto", "equal"] = "auto" if flat else "equal"
    if picture.center is None:
        shades = ListedColormap(colors(False) / 255).with_extremes(bad=_MARKED)
        shown = axes.imshow(np.ma.masked_invalid(values), cmap=shades, interpolation="nearest", aspect=aspect)
    else:
        reach = max(high - picture.center, picture.center - low, 1e-12)
        norm = TwoSlopeNorm(picture.center, picture.center - reach, picture.center + reach)
        shown = axes.imshow(
            values, cmap=ListedColormap(colors(True) / 255), norm=norm, interpolation="nearest", aspect=aspect
        )
    bar = figure.colorbar(shown, ax=axes, shrink=0.9, location="bottom" if flat else "right", aspect=40 if flat else 20)
    bar.set_label(picture.unit, size=_SMALL, color=QUIET)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_SMALL, length=2, color=QUIET, labelcolor=QUIET)
    axes.set(xlabel=picture.across, ylabel="" if flat else picture.down)
    if flat:
        axes.set_yticks([])
    _finish(figure, axes, picture.title)
    return figure


def draw_pixels(picture: PixelsPicture) -> Figure:
    """Return an image in gray, whose marked pixels are crimson."""
    height, width = picture.marked.shape
    values = image_values(picture.image.detach().cpu().float(), (height, width), "The image", None)
    pixels = Stretch.of(*extremes_of(values)).pixels(values)
    pixels = pixels.mean(axis=2, keepdims=True).round().astype(np.uint8).repeat(3, axis=2)  # gray, to stand out from
    shown = np.where(picture.marked[..., None], np.array([225, 15, 90], np.uint8), pixels)
    figure = Page(figsize=(5.2, max(2.0, 1.0 + 4.4 * height / width)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shown, interpolation="nearest")
    axes.set_xlabel(picture.words)
    _finish(figure, axes, picture.title)
    return figure


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    """Write the title over the whole width, and make everything but the values quiet."""
    width = UNIT * figure.get_figwidth() - 2 * MARGIN
    lines = "\n".join(wrapped(title, width, TITLE_FONT))
    figure.suptitle(lines, x=MARGIN / (width + 2 * MARGIN), ha="left", font=TITLE_FONT, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=_SMALL, length=2, color=QUIET, labelcolor=QUIET)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=_SMALL, color=QUIET)
