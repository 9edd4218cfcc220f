"""Images enlarged pixel by pixel, and side by side on paper, each under its name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from spatialprobe.render.letters import LINE_HEIGHT, width_of
from spatialprobe.render.sheet import Sheet

_GAP = 8  # pixels of paper around panels

Pixels = npt.NDArray[np.uint8]


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Return an image (H, W, channels) with each pixel as a square of factor x factor.

    >>> enlarge(np.zeros((2, 3, 3), np.uint8), 4).shape
    (8, 12, 3)
    """
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def lay_out_panels(panels: Mapping[str, Pixels], *, margin: int = 0) -> Sheet:
    """Return panels (H, W, 3) beside each other on a sheet, each under its name.

    Args:
        panels: from names to pixels.
        margin: pixels of paper that each panel has around its image, over which its name begins.
    """
    height = max(panel.shape[0] for panel in panels.values())
    wide = max(max(panel.shape[1], width_of(name) + margin) for name, panel in panels.items()) + _GAP
    like = np.zeros((0, 0, 0, 3), np.uint8)
    sheet = Sheet.blank(height + LINE_HEIGHT + 3 * _GAP // 2, len(panels) * wide + _GAP, like)
    top = _GAP // 2 + LINE_HEIGHT
    for index, (name, panel) in enumerate(panels.items()):
        left = _GAP + index * wide
        sheet.write(name, _GAP // 2, left + margin)
        sheet.pixels[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return sheet
