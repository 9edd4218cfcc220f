"""Small letters as arrays of ink, put together from glyphs that are drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spatialprobe.render.palette import INK, PAPER, Codes, palette

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

LINE_HEIGHT = 14  # pixels: a line of letters
_SIZE = 11  # pixels
_SPACE = 4  # pixels: the font's own space is lost between digits
_BASELINE = 12  # pixels from the top of the line


@dataclass(frozen=True)
class Label:
    """A line of text that is written on a sheet; where text is vectors, it is written again in place of the letters."""

    text: str
    top: int  # pixels from the top of the sheet to that of the line, which is LINE_HEIGHT pixels high
    left: int  # pixels

    @property
    def width(self) -> int:
        """The pixels that the letters take."""
        return width_of(self.text)


@lru_cache(maxsize=8192)
def lettering(text: str) -> Codes:
    """A line of text, (LINE_HEIGHT, width) codes from paper to full ink."""
    return np.hstack([_glyph(letter) for letter in text] or [np.full((LINE_HEIGHT, 0), PAPER, np.uint8)])


def width_of(text: str) -> int:
    """The width of a line of text in pixels."""
    return sum(_glyph(letter).shape[1] for letter in text)


def shortened(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits a width in pixels, with two dots after it."""
    if width_of(text) <= width:
        return text
    while text and width_of(f"{text}..") > width:
        text = text[:-1]
    return f"{text}.."


def write(sheet: Codes, text: str, top: int, left: int) -> None:
    """Write a line on a sheet of codes (H, W) or colors (H, W, 3); what would leave the sheet is cut."""
    line = lettering(text)[: len(sheet) - top, : sheet.shape[1] - left]
    sheet[top : top + line.shape[0], left : left + line.shape[1]] = line if sheet.ndim == 2 else palette(False)[line]


@cache
def _glyph(letter: str) -> Codes:
    """One letter with the space after it."""
    from PIL import Image, ImageDraw

    font = _font() if letter.isascii() else _wide_font()
    width = _SPACE if letter == " " else max(1, round(font.getlength(letter)))
    strip = Image.new("L", (width, LINE_HEIGHT))
    ImageDraw.Draw(strip).text((0, _BASELINE), letter, 255, font, anchor="ls")
    codes: Codes = INK.start + np.asarray(strip) // (256 // (INK.stop - INK.start))
    return codes


@cache
def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(_SIZE)


@cache
def _wide_font() -> FreeTypeFont | ImageFont:
    """The font that matplotlib brings, for letters that Pillow's own lacks, such as "≥"."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", _SIZE)
