"""Mosaics as matplotlib figures; the only file that imports matplotlib, and never pyplot."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from spatialprobe.render.mosaic import ColourBar, Mosaic
from spatialprobe.render.palette import colours

_DPI = 100
_MARGIN = 14  # pixels
_BAR_ROOM = 90  # pixels right of the mosaic: bar, ticks and numbers
_BAR_WIDTH = 16  # pixels
_NARROWEST = 460  # pixels: room for words below a small mosaic
_TITLE_LINE = 20  # pixels
_CAPTION_LINE = 15  # pixels
_TITLE_FONT = FontProperties(size=10.5, weight="bold")
_CAPTION_FONT = FontProperties(size=8)


def mosaic_figure(mosaic: Mosaic, title: str) -> Figure:
    """The mosaic pixel for pixel at 100 dpi, title above, caption below, colour bar at the right if it has one."""
    height, width = mosaic.pixels.shape[:2]
    bar_room = _BAR_ROOM if mosaic.colour_bar else 0
    full_width = max(_NARROWEST, width + bar_room + 2 * _MARGIN)
    head = _wrapped(title, full_width - 2 * _MARGIN, _TITLE_FONT)
    foot = _wrapped(mosaic.caption, full_width - 2 * _MARGIN, _CAPTION_FONT)
    above = _MARGIN + _TITLE_LINE * len(head) + (6 if head else 0)
    below = _MARGIN + _CAPTION_LINE * len(foot) + 6
    full_height = above + height + below
    figure = Figure(figsize=(full_width / _DPI, full_height / _DPI), dpi=_DPI, facecolor="white")
    left = (full_width - width - bar_room) // 2
    axes = figure.add_axes((left / full_width, below / full_height, width / full_width, height / full_height))
    axes.imshow(mosaic.array, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    margin = _MARGIN / full_width
    figure.text(margin, 1 - _MARGIN / full_height, "\n".join(head), va="top", font=_TITLE_FONT, parse_math=False)
    figure.text(
        margin,
        _MARGIN / full_height,
        "\n".join(foot),
        va="bottom",
        font=_CAPTION_FONT,
        color="#404048",
        parse_math=False,
    )
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
    axes.tick_params(labelsize=_CAPTION_FONT.get_size_in_points())


def _wrapped(words: str, width: int, font: FontProperties) -> list[str]:
    """Lines that fit a width in pixels, broken between words."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _text_width(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _text_width(text: str, font: FontProperties) -> float:
    """The width of a line of text in pixels."""
    points, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(points) * _DPI / 72
