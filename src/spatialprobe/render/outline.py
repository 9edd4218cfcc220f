"""A box outlined on an image, everything outside it shaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.render.palette import PAPER, palette

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box

MARGIN = 8  # pixels of paper around the image, where the outline finds room at the border
_LINE = 2  # pixels: each of the outline's two lines
_SHADE = 0.6  # how much of what lies outside gives way to a shade
_LIGHT, _DARK = 216.0, 40.0  # the shades around a dark box, and around a bright one


def outlined(
    image: npt.NDArray[np.uint8], box: Box | None, factor: int, *, shaded: bool = True
) -> npt.NDArray[np.uint8]:
    """Return the image on paper, the box outlined, all outside it shaded if asked; a box of None is nowhere."""
    gray = image @ np.array([0.299, 0.587, 0.114])
    shade = _DARK if gray[_pixels(box, factor)].mean() > 127 else _LIGHT
    gray_outside = np.round((1 - _SHADE) * gray + _SHADE * shade).astype(np.uint8)
    sheet = np.full((image.shape[0] + 2 * MARGIN, image.shape[1] + 2 * MARGIN, 3), palette(False)[PAPER], np.uint8)
    sheet[MARGIN:-MARGIN, MARGIN:-MARGIN] = gray_outside[..., None] if shaded else image
    if box is None:
        return sheet
    ys, xs = _pixels(box, factor)
    for width, color in ((2 * _LINE, 0), (_LINE, 255), (0, image[ys, xs])):
        outer = [slice(MARGIN + side.start - width, MARGIN + side.stop + width) for side in (ys, xs)]
        sheet[tuple(outer)] = color
    return sheet


def _pixels(box: Box | None, factor: int) -> tuple[slice, slice]:
    """Return the rows and columns of a box on the enlarged image; all of them where the box is None."""
    if box is None:
        return slice(None), slice(None)
    ys, xs = (slice(start * factor, stop * factor) for start, stop in zip(box.start, box.stop, strict=True))
    return ys, xs
