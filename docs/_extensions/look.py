"""How the drawings of pages look: their colors, plain axes, and boxes and arrows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

DARK, ORANGE, VIOLET, TEAL, CRIMSON, GRAY = "#2b2f5e", "#c9862b", "#8b8fb8", "#2a8a86", "#d81159", "#808088"
PALE = "#eeeef5"


def make_figure(width: float, height: float) -> Figure:
    """Return a figure, in inches, whose parts keep their distance."""
    return Figure(figsize=(width, height), layout="constrained")


def make_canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure, in inches, and axes that fill it, in the same unit, with the origin at the top."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def strip(axes: Axes) -> None:
    """Leave out the frame above and on the right, and write small."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def add_box(axes: Axes, place: tuple[float, float, float, float], text: str, **style: object) -> None:
    """Draw a rounded box (x, y, width, height) with a text in it."""
    x, y, width, height = place
    options = {"facecolor": PALE, "edgecolor": VIOLET, "linewidth": 1.0} | style
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", **options))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, color=DARK)


def add_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = DARK) -> None:
    """Draw an arrow."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=color, linewidth=1.2))
