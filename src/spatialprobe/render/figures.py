"""Pictures as matplotlib figures, on pages that are measured in pixels at 100 dpi; pyplot is not used."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from spatialprobe.arguments import as_float
from spatialprobe.errors import ArgumentError
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import HATCH, INK, Colors, colors
from spatialprobe.render.png import png
from spatialprobe.render.written import Lettering, SheetImage
from spatialprobe.text import escape_controls

UNIT = 100  # pixels per inch: all lengths here are in these
MARGIN = 14
BAR_ROOM = 90  # right of the mosaic: bar, ticks and numbers
BAR_WIDTH = 14
_LOWEST_BAR = 90  # room for numbers that do not touch
_HIGHEST_BAR = 360
_TICK_ROOM = 10  # between a bar and its numbers
_BAR_INSET = 7  # the numbers at both ends stick out
_NARROWEST = 460  # room for words below a small mosaic
TITLE_LINE = 20
CAPTION_LINE = 15
QUIET = "#50505a"  # of captions and numbers
TITLE_FONT = FontProperties(size=10.5, weight="bold")
CAPTION_FONT = FontProperties(size=8)
_SHARP = 2  # times as many pixels in a notebook, for screens that show two where there was one
_RASTER_LIMIT = 2**16  # pixels on a side that matplotlib before 3.10 refuses
_WHITE = HATCH + 1  # an entry of the palette that no mosaic uses
_WIDTHS, _DPIS = (1.0, 100.0), (10.0, 1200.0)


class Page(Figure):
    """A figure that a notebook shows at the end of a cell, sharp on any screen."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(inches * UNIT) for inches in self.get_size_inches())
        return encode_page(self, ".png", dpi=_SHARP * UNIT), {"width": width, "height": height}


def blank_page(width: float, height: float, dpi: float | None) -> Page:
    """Return an empty page of so many pixels at 100 dpi, which is drawn at `dpi`."""
    return Page(figsize=(width / UNIT, height / UNIT), dpi=check_dpi(dpi), facecolor="white")


def check_dpi(dpi: float | None) -> float:
    """Return the dots per inch that a page is drawn at.

    Raises:
        ArgumentError: it is not a number between 10 and 1200.
    """
    return UNIT if dpi is None else _within(dpi, "dpi", *_DPIS)


def check_width(width: float | None) -> float | None:
    """Return the width of a page in pixels, None where it follows from the picture.

    Raises:
        ArgumentError: it is not a number of inches between 1 and 100.
    """
    return None if width is None else UNIT * _within(width, "width", *_WIDTHS)


def _within(value: float, name: str, least: float, most: float) -> float:
    value = as_float(value, name)
    if not least <= value <= most:
        raise ArgumentError(f"{name} must be between {least:g} and {most:g}, not {value:g}.")
    return value


@dataclass(frozen=True)
class _Panel:
    """A mosaic with its words broken into lines for a column of a page."""

    mosaic: Mosaic
    across: float  # the width of the column
    scale: float  # pixels of the page for one of the mosaic
    head: list[str]
    foot: list[str]

    @staticmethod
    def of(mosaic: Mosaic, title: str, across: float, scale: float) -> _Panel:
        width = across - 2 * MARGIN
        head, foot = wrapped(title, width, TITLE_FONT), wrapped(mosaic.caption, width, CAPTION_FONT)
        return _Panel(mosaic, across, scale, head, foot)

    @property
    def above(self) -> int:
        """The height that the title takes."""
        return MARGIN + TITLE_LINE * len(self.head) + (6 if self.head else 0)

    @property
    def size(self) -> tuple[float, float]:
        """Height and width of the mosaic on the page."""
        height, width = self.mosaic.pixels.shape[:2]
        return height * self.scale, width * self.scale

    @property
    def picture(self) -> float:
        """The height of the mosaic, or of a bar that is higher."""
        return max(self.size[0], _LOWEST_BAR if self.mosaic.color_bar else 0)

    @property
    def height(self) -> float:
        """All of it, with the caption."""
        return self.above + self.picture + MARGIN + CAPTION_LINE * len(self.foot) + 6


def mosaic_figure(mosaic: Mosaic, title: str, width: float | None = None, dpi: float | None = None) -> Page:
    """The mosaic, pixel for pixel at 100 dpi, title above, caption below, color bar at the right if it has one."""
    return page([(mosaic, title)], None, width, dpi)


def page(
    mosaics: Sequence[tuple[Mosaic, str]],
    title: str | None,
    width: float | None = None,
    dpi: float | None = None,
    columns: int = 1,
) -> Page:
    """Mosaics with their titles in rows of so many columns under one title for all.

    They are as large as they are, pixel for pixel at 100 dpi, or fill a page of `width` inches.
    """
    given = check_width(width)
    room = None if given is None else given / columns
    across = room or max(_NARROWEST, *(_width(mosaic, 1) + 2 * MARGIN for mosaic, _ in mosaics))
    panels = [
        _Panel.of(mosaic, words, across, 1 if room is None else _fitting(mosaic, room)) for mosaic, words in mosaics
    ]
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    head = wrapped(title or "", columns * across - 2 * MARGIN, TITLE_FONT)
    top = float(MARGIN + TITLE_LINE * len(head) if head else 0)
    height = top + sum(max(panel.height for panel in row) for row in rows)
    figure = blank_page(columns * across, height, dpi)
    if head:
        write_lines(figure, head, height - MARGIN, TITLE_FONT)
    for row in rows:
        for column, panel in enumerate(row):
            _draw_panel(figure, panel, column * across, top)
        top += max(panel.height for panel in row)
    return figure


def _width(mosaic: Mosaic, scale: float) -> float:
    return int(mosaic.pixels.shape[1]) * scale + _bar_room(mosaic.color_bar)


def _bar_room(bar: ColorBar | None) -> float:
    """The pixels right of a picture that a bar and the longest of its numbers take; 0 without a bar."""
    if bar is None:
        return 0
    longest = max(text_width(number, CAPTION_FONT) for number in (*bar.ends, *_numbers_between(bar).values()))
    return max(BAR_ROOM, MARGIN + BAR_WIDTH + _TICK_ROOM + longest)


def _fitting(mosaic: Mosaic, room: float) -> float:
    """The scale at which a mosaic and its bar fill a column."""
    room -= 2 * MARGIN + _bar_room(mosaic.color_bar)
    return max(room, UNIT / 10) / int(mosaic.pixels.shape[1])


def _draw_panel(figure: Figure, panel: _Panel, start: float, top: float) -> None:
    """Words, picture and bar of one mosaic, from `start` and `top` pixels beyond the page's left and upper edge."""
    page_height = figure.get_size_inches()[1] * UNIT
    height, width = panel.size
    left = round(start + (panel.across - _width(panel.mosaic, panel.scale)) / 2)
    upper = page_height - top - panel.above
    _draw_sheet(place_axes(figure, left, upper - height, width, height), panel)
    write_lines(figure, panel.head, page_height - top - MARGIN, TITLE_FONT, left=start + MARGIN)
    write_lines(figure, panel.foot, upper - panel.picture - 6, CAPTION_FONT, QUIET, left=start + MARGIN)
    if panel.mosaic.color_bar:
        high = min(panel.picture, _HIGHEST_BAR) - 2 * _BAR_INSET
        place = (left + width + MARGIN, upper - _BAR_INSET - high, BAR_WIDTH, high)
        _draw_bar(place_axes(figure, *place), panel.mosaic.color_bar)


def _draw_sheet(axes: Axes, panel: _Panel) -> None:
    """The mosaic, with what is written on it as text."""
    image = SheetImage(axes, panel.mosaic, enlarged=panel.scale >= 1)
    axes.add_image(image)
    height, width = panel.mosaic.pixels.shape[:2]
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.add_artist(Lettering(panel.mosaic.labels, panel.scale, image))


def place_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in pixels."""
    across, up = (inches * UNIT for inches in figure.get_size_inches())
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write_lines(
    figure: Figure, lines: list[str], top: float, font: FontProperties, color: str = "black", left: float = MARGIN
) -> None:
    """Lines at the left margin, from `top` pixels above the page's lower edge downwards."""
    across, up = (inches * UNIT for inches in figure.get_size_inches())
    place = (left / across, top / up)
    figure.text(*place, "\n".join(lines), va="top", font=font, color=color, parse_math=False)


def _draw_bar(axes: Axes, bar: ColorBar) -> None:
    """The colors of the values with numbers beside them, those of both ends among them."""
    shades = AxesImage(axes, extent=(0, 1, bar.low, bar.high), interpolation="none")
    shades.set_data(colors(bar.signed)[::-1, None])
    axes.add_image(shades)
    axes.set(xlim=(0, 1), ylim=(bar.low, bar.high), xticks=[])
    between = _numbers_between(bar)
    low, high = bar.ends
    axes.set_yticks([bar.low, *between, bar.high], [low, *between.values(), high])
    axes.spines[:].set_visible(False)
    size = CAPTION_FONT.get_size_in_points()
    axes.tick_params(labelsize=size, length=2, color=QUIET, labelcolor=QUIET, labelleft=False, labelright=True)
    axes.tick_params(left=False, right=True)


def _numbers_between(bar: ColorBar) -> dict[float, str]:
    """Round values between the ends of a bar as text, with room for the numbers of the ends."""
    room = 0.12 * (bar.high - bar.low)
    steps = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(bar.low, bar.high)
    return {float(value): f"{value:.4g}" for value in steps if bar.low + room <= value <= bar.high - room}


def wrapped(words: str, width: float, font: FontProperties) -> list[str]:
    """Lines that fit a width in pixels, broken between words, and within one that is wider."""
    lines: list[str] = []
    taken, space = 0.0, text_width("n n", font) - text_width("nn", font)
    for piece in (piece for word in escape_controls(words).split() for piece in _pieces(word, width, font)):
        length = text_width(piece, font)
        if lines and taken + space + length <= width:
            lines[-1] = f"{lines[-1]} {piece}"
            taken += space + length
        else:
            lines.append(piece)
            taken = length
    return lines


def _pieces(word: str, width: float, font: FontProperties) -> Iterator[str]:
    """Yield a word in pieces that fit a width in pixels, of one character at least."""
    while text_width(word, font) > width and len(word) > 1:
        fitting = bisect_right(range(1, len(word)), width, key=lambda length: text_width(word[:length], font))
        yield word[: max(1, fitting)]
        word = word[max(1, fitting) :]
    yield word


@lru_cache(maxsize=4096)
def text_width(text: str, font: FontProperties) -> float:
    """The width of a word in pixels."""
    width, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)  # type: ignore[no-untyped-call]
    return float(width)


@cache
def _renderer() -> RendererAgg:
    """Return the renderer of the page, whose letters are wider than the font's own measures."""
    return RendererAgg(1, 1, UNIT)  # type: ignore[no-untyped-call]


def rasterize(figure: Figure) -> npt.NDArray[np.uint8]:
    """A figure as an image (H, W, 3)."""
    return np.array(_draw(figure)[..., :3])


def _draw(figure: Figure) -> npt.NDArray[np.uint8]:
    """Return a figure as an image (H, W, 4), whose last channel is opacity."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


def fits_raster(figure: Figure) -> bool:
    """Return whether a page is small enough for matplotlib to rasterize."""
    return bool(max(figure.get_size_inches() * figure.dpi) < _RASTER_LIMIT)


def encode_raster(figure: Figure, colors: Colors | None, text: Mapping[str, str]) -> bytes:
    """Return a figure as a PNG with these text chunks.

    With the palette of the mosaics on it the file is a third as large as without. Whatever else is on the figure, such
    as words, then has the nearest of the palette's shades of ink, or white.
    """
    if colors is None:
        return png(rasterize(figure), None, text)
    entries = colors.copy()
    entries[_WHITE] = 255
    grays = np.array([*range(INK.start, INK.stop), _WHITE])
    nearest = abs(np.arange(256)[:, None] - entries[grays, 1].astype(int)).argmin(axis=1)
    codes = np.empty((256, 256, 256), np.uint8)  # by blue, green and red, as the bytes of a pixel lie in a number
    codes[...] = grays[nearest][None, :, None]  # by green
    codes[tuple(entries[: _WHITE + 1, ::-1].T)] = np.arange(_WHITE + 1)
    numbers = _draw(figure).view("<u4")[..., 0] & 0xFFFFFF
    indexed = np.empty(numbers.shape, np.uint8)
    for row, here in zip(indexed, numbers, strict=True):  # row by row, since numpy widens the indices of all at once
        codes.reshape(-1).take(here, out=row)
    return png(indexed, entries, text)


def encode_page(figure: Figure, suffix: str, dpi: float | None = None) -> bytes:
    """Return a figure as the content of a `.png`, `.pdf` or `.svg` file, in the latter two of which words are text."""
    file = BytesIO()
    options: dict[str, dict[str, Any]] = {
        ".svg": {"metadata": {"Date": None}},
        ".png": {"pil_kwargs": {"compress_level": 1}},  # Pillow's own choice takes seconds for a long page
    }
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "spatialprobe", "pdf.fonttype": 42}):
        figure.savefig(file, format=suffix.removeprefix("."), dpi=dpi or figure.dpi, **options.get(suffix, {}))
    return file.getvalue()
