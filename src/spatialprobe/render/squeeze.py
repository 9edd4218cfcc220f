"""A mosaic at a fraction of its size, whose labels stay as large as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spatialprobe.render.letters import LINE_HEIGHT, Label, shortened
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.palette import LEVELS, NONFINITE, PAPER, palette
from spatialprobe.render.sheet import Sheet

Pixels = npt.NDArray[np.uint8]

_NARROWEST = 30  # pixels between labels: room for a channel number of four digits


def squeeze(mosaic: Mosaic, factor: int) -> Mosaic:
    """Return the mosaic with its maps at 1/factor of their size, each pixel the mean of those that it stands for.

    Lines of labels keep their height. The same mosaic is returned where its labels would no longer fit, or where
    more than labels stands in their lines.
    """
    starts = sorted({label.left for label in mosaic.labels})
    apart = min(np.diff(starts), default=mosaic.pixels.shape[1])
    bands, pixels = _bands(mosaic), mosaic.unwritten(codes=True)
    paper = PAPER if pixels.ndim == 2 else palette(False)[PAPER]
    blank = all((pixels[start:stop] == paper).all() for start, stop, is_line in bands if is_line)
    if factor == 1 or apart < factor * _NARROWEST or not blank:
        return mosaic
    lengths = [LINE_HEIGHT if is_line else -(-(stop - start) // factor) for start, stop, is_line in bands]
    shape = sum(lengths), -(-pixels.shape[1] // factor), *pixels.shape[2:]
    sheet = Sheet(np.full(shape, paper, np.uint8))
    tops: dict[int, int] = {}
    for (start, stop, is_line), length, top in zip(bands, lengths, np.cumsum([0, *lengths]).tolist(), strict=False):
        if is_line:
            tops[start] = top
        elif stop > start:
            sheet.pixels[top : top + length] = _means(pixels[start:stop], factor)
    for label in mosaic.labels:
        sheet.write(_fitting(label, int(apart) // factor - 2), tops[label.top], label.left // factor)
    return replace(mosaic, pixels=sheet.pixels, labels=tuple(sheet.labels))


def _bands(mosaic: Mosaic) -> list[tuple[int, int, bool]]:
    """The rows of pixels from top to bottom: first row, the one after the last, and whether labels stand there."""
    bands, above = [], 0
    for top in sorted({label.top for label in mosaic.labels}):
        bands += [(above, top, False), (top, top + LINE_HEIGHT, True)]
        above = top + LINE_HEIGHT
    return [*bands, (above, len(mosaic.pixels), False)]


def _means(pixels: Pixels, factor: int) -> Pixels:
    """The means of squares of factor x factor colors or codes, at the right and below of what is left of them.

    Codes of values are in the order of the values. A square with one that is not finite is not finite; one with paper
    or lines in it becomes what is in its middle.
    """
    means = _reduced(pixels, factor)
    if pixels.ndim == 2:
        rows, columns = np.nonzero(_any(pixels >= LEVELS, factor))
        y = np.minimum(rows * factor + factor // 2, len(pixels) - 1)
        x = np.minimum(columns * factor + factor // 2, pixels.shape[1] - 1)
        means[rows, columns] = pixels[y, x]
        means[_any(pixels == NONFINITE, factor)] = NONFINITE
    return means


def _any(mask: npt.NDArray[np.bool_], factor: int) -> npt.NDArray[np.bool_]:
    """Whether any of factor x factor pixels is marked."""
    return np.asarray(_reduced(np.where(mask, np.uint8(255), np.uint8(0)), factor) > 0)


def _reduced(pixels: Pixels, factor: int) -> Pixels:
    from PIL import Image

    return np.array(Image.fromarray(pixels).reduce(factor))


def _fitting(label: Label, width: int) -> str:
    """The label, a word after its number in one letter where there is no room for it."""
    number, _, mark = label.text.partition(" ")
    return label.text if label.width <= width or not mark else shortened(f"{number} {mark[0]}", width)
