"""Pictures as matplotlib figures; the only file that imports matplotlib, and never pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from spatialprobe.render.histogram import ActivationHistogram
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import colors

_DPI = 100
_MARGIN = 14  # pixels
_BAR_ROOM = 90  # pixels right of the mosaic: bar, ticks and numbers
_BAR_WIDTH = 16  # pixels
_LOWEST_BAR = 90  # pixels: room for numbers that do not touch
_NARROWEST = 460  # pixels: room for words below a small mosaic
_TITLE_LINE = 20  # pixels
_CAPTION_LINE = 15  # pixels
_HISTOGRAM = 720  # pixels: the width of a histogram's page
_CURVE = 170  # pixels
_ROW = 12  # pixels: a channel's row of colors
_MOST_ROWS = 640  # pixels: where there are more channels, their rows are lower
_MOST_NUMBERS = 40  # channel numbers beside the rows
_STEPS = [mantissa * 10**power for power in range(9) for mantissa in (1, 2, 5)]  # between the numbers
_AXIS_ROOM = 46  # pixels: numbers and name of an axis
_QUIET = "#404048"  # of captions and numbers
_TITLE_FONT = FontProperties(size=10.5, weight="bold")
_CAPTION_FONT = FontProperties(size=8)


@dataclass(frozen=True)
class _Panel:
    """A mosaic with its words broken into lines for a page of some width; lengths in pixels."""

    mosaic: Mosaic
    head: list[str]
    foot: list[str]

    @staticmethod
    def of(mosaic: Mosaic, title: str, page_width: int) -> _Panel:
        width = page_width - 2 * _MARGIN
        return _Panel(mosaic, _wrapped(title, width, _TITLE_FONT), _wrapped(mosaic.caption, width, _CAPTION_FONT))

    @property
    def above(self) -> int:
        """What the title takes."""
        return _MARGIN + _TITLE_LINE * len(self.head) + (6 if self.head else 0)

    @property
    def picture(self) -> int:
        """The height of the mosaic, or of a bar that is higher."""
        return max(len(self.mosaic.pixels), _LOWEST_BAR if self.mosaic.color_bar else 0)

    @property
    def height(self) -> int:
        """All of it, with the caption."""
        return self.above + self.picture + _MARGIN + _CAPTION_LINE * len(self.foot) + 6


def mosaic_figure(mosaic: Mosaic, title: str) -> Figure:
    """The mosaic pixel for pixel at 100 dpi, title above, caption below, color bar at the right if it has one."""
    return page([(mosaic, title)], None)


def page(mosaics: Sequence[tuple[Mosaic, str]], title: str | None) -> Figure:
    """Mosaics with their titles below each other, pixel for pixel at 100 dpi, under one title for all."""
    width = max(_NARROWEST, *(_width(mosaic) + 2 * _MARGIN for mosaic, _ in mosaics))
    panels = [_Panel.of(mosaic, words, width) for mosaic, words in mosaics]
    head = _wrapped(title or "", width - 2 * _MARGIN, _TITLE_FONT)
    top = _MARGIN + _TITLE_LINE * len(head) if head else 0
    height = top + sum(panel.height for panel in panels)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    if head:
        _write(figure, head, height - _MARGIN, _TITLE_FONT)
    for panel in panels:
        _draw_panel(figure, panel, top)
        top += panel.height
    return figure


def _width(mosaic: Mosaic) -> int:
    return int(mosaic.pixels.shape[1]) + (_BAR_ROOM if mosaic.color_bar else 0)


def _draw_panel(figure: Figure, panel: _Panel, top: int) -> None:
    """Words, picture and bar of one mosaic, from `top` pixels below the page's upper edge."""
    page_width, page_height = (round(inches * _DPI) for inches in figure.get_size_inches())
    height, width = panel.mosaic.pixels.shape[:2]
    left = (page_width - _width(panel.mosaic)) // 2
    bottom = page_height - top - panel.above - height
    axes = _axes(figure, left, bottom, width, height)
    axes.imshow(panel.mosaic.array, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    _write(figure, panel.head, page_height - top - _MARGIN, _TITLE_FONT)
    _write(figure, panel.foot, page_height - top - panel.above - panel.picture - 6, _CAPTION_FONT, _QUIET)
    if panel.mosaic.color_bar:
        inset = 0.06 * panel.picture  # the numbers at both ends stick out
        foot = page_height - top - panel.above - panel.picture + inset
        place = (left + width + _MARGIN, foot, _BAR_WIDTH, panel.picture - 2 * inset)
        _draw_bar(figure, _axes(figure, *place), panel.mosaic.color_bar)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in pixels."""
    across, up = (inches * _DPI for inches in figure.get_size_inches())
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _write(figure: Figure, lines: list[str], top: float, font: FontProperties, color: str = "black") -> None:
    """Lines at the left margin, from `top` pixels above the page's lower edge downwards."""
    across, up = (inches * _DPI for inches in figure.get_size_inches())
    place = (_MARGIN / across, top / up)
    figure.text(*place, "\n".join(lines), va="top", font=font, color=color, parse_math=False)


def _draw_bar(figure: Figure, axes: Axes, bar: ColorBar) -> None:
    """The colors of the values with numbers beside them, those of both ends among them."""
    shades = ListedColormap(colors(bar.signed) / 255)
    legend = figure.colorbar(ScalarMappable(Normalize(bar.low, bar.high), shades), cax=axes)
    between = _ticks_between(bar.low, bar.high)
    low, high = bar.ends
    legend.set_ticks([bar.low, *between, bar.high], labels=[low, *(f"{value:.4g}" for value in between), high])
    legend.outline.set_visible(False)
    axes.tick_params(labelsize=_CAPTION_FONT.get_size_in_points(), length=2, color=_QUIET, labelcolor=_QUIET)


def _ticks_between(low: float, high: float) -> list[float]:
    """Round values between the ends of a bar, with room for the numbers of the ends."""
    room = 0.12 * (high - low)
    steps = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in steps if low + room <= value <= high - room]


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
    width, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]
    return float(width)


@cache
def _renderer() -> RendererAgg:
    """What draws the page: its letters are wider than the font's own measures."""
    return RendererAgg(1, 1, _DPI)  # type: ignore[no-untyped-call]


def histogram_figure(histogram: ActivationHistogram, title: str) -> Figure:
    """All values as a curve, below it a row of colors for each channel, on one axis of values."""
    head = _wrapped(title, _HISTOGRAM - 2 * _MARGIN, _TITLE_FONT)
    foot = _wrapped(histogram.caption, _HISTOGRAM - 2 * _MARGIN, _CAPTION_FONT)
    rows = min(max(_ROW * len(histogram.counts), _LOWEST_BAR), _MOST_ROWS)
    below = _MARGIN + _CAPTION_LINE * len(foot) + _AXIS_ROOM
    width = _HISTOGRAM - _AXIS_ROOM - _BAR_ROOM - 2 * _MARGIN
    height = below + rows + _MARGIN + _CURVE + _MARGIN + _TITLE_LINE * len(head) + _MARGIN
    figure = Figure(figsize=(_HISTOGRAM / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    _write(figure, head, height - _MARGIN, _TITLE_FONT)
    _write(figure, foot, below - _AXIS_ROOM, _CAPTION_FONT, _QUIET)
    left = _AXIS_ROOM + _MARGIN
    _draw_curve(_axes(figure, left, below + rows + _MARGIN, width, _CURVE), histogram)
    channels = _axes(figure, left, below, width, rows)
    _draw_rows(figure, channels, _axes(figure, left + width + _MARGIN, below, _BAR_WIDTH, rows), histogram)
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
    axes.set_ylabel("share of all", font=_CAPTION_FONT)
    axes.tick_params(labelsize=_CAPTION_FONT.get_size_in_points(), labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_rows(figure: Figure, axes: Axes, bar: Axes, histogram: ActivationHistogram) -> None:
    """The share of each channel's values in each bin, as colors on a logarithmic scale."""
    shades = ListedColormap(colors(False) / 255).with_extremes(bad="white")
    shares = np.ma.masked_equal(histogram.shares, 0)
    scale = LogNorm(_floor(histogram.shares), 1)
    lines = np.arange(len(shares) + 1) - 0.5
    mesh = axes.pcolormesh(histogram.edges, lines, shares, cmap=shades, norm=scale, rasterized=True)
    figure.colorbar(mesh, cax=bar).set_label("share of the channel", font=_CAPTION_FONT)
    axes.invert_yaxis()
    step = next(step for step in _STEPS if len(shares) <= step * _MOST_NUMBERS)
    axes.set_yticks(np.arange(0, len(shares), step), [str(channel) for channel in histogram.channels[::step]])
    axes.set_ylabel("channel", font=_CAPTION_FONT)
    axes.set_xlabel("value", font=_CAPTION_FONT)
    for part in (axes, bar):
        part.tick_params(labelsize=_CAPTION_FONT.get_size_in_points())


def _floor(shares: npt.NDArray[np.float64]) -> float:
    """Where a logarithmic scale of shares begins: at the power of ten below the least that is not zero."""
    least = shares[shares > 0].min(initial=0.01)
    return float(10.0 ** np.floor(np.log10(least)))


def rasterised(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure as an image (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]


def encode_page(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the content of a `.pdf` or `.svg` file, whose words are text."""
    file = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "spatialprobe", "pdf.fonttype": 42}):
        figure.savefig(file, format=suffix.removeprefix("."), metadata={"Date": None} if suffix == ".svg" else None)
    return file.getvalue()
