"""The colors: a table of color maps that every reader can tell apart, and the codes reserved for marks.

Colors are laid out in OKLab [Ottosson 2020, "A perceptual color space for image processing"], in which equal
steps look equal. Lightness alone orders each map, so that they survive color blindness and a gray printer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]  # one palette entry per pixel
Colors = npt.NDArray[np.uint8]  # (entries, 3), sRGB

LEVELS = 241  # codes 0..240 carry values; odd, so that zero has a code of its own in the middle
INK = slice(241, 249)  # from paper to full ink, for smooth letters
PAPER = 241
NONFINITE = 249
HATCH = 250

_PAPER_COLOR = (236, 236, 241)
_INK_COLOR = (32, 32, 40)
_NONFINITE_COLOR = (225, 15, 90)  # crimson: of all reds the furthest from both maps, for color-blind readers too
_HATCH_COLOR = (150, 150, 158)

Anchors = tuple[tuple[float, float, float], ...]  # (lightness, chroma, hue in degrees) at equal distances


@dataclass(frozen=True)
class ColorMap:
    """The colors of values, as paths through anchors: from zero upwards, and from zero downwards if it is signed."""

    above: Anchors
    below: Anchors = ()  # begins at the same color as `above`

    @property
    def signed(self) -> bool:
        """Whether colors diverge around zero in the middle."""
        return bool(self.below)


SEQUENTIAL, DIVERGING = "sequential", "diverging"
COLOR_MAPS = {
    SEQUENTIAL: ColorMap(
        above=((0.25, 0.08, 286), (0.40, 0.115, 275), (0.54, 0.105, 225), (0.71, 0.125, 165), (0.95, 0.15, 105)),
    ),
    DIVERGING: ColorMap(
        above=((0.985, 0.0, 285), (0.86, 0.065, 290), (0.70, 0.115, 285), (0.52, 0.155, 282), (0.36, 0.15, 280)),
        below=((0.985, 0.0, 60), (0.86, 0.08, 65), (0.70, 0.13, 60), (0.52, 0.125, 52), (0.36, 0.09, 48)),
    ),
}


@cache
def color_map(name: str) -> Colors:
    """Return the (LEVELS, 3) colors of a map of the table."""
    chosen = COLOR_MAPS[name]
    if not chosen.signed:
        return _along(chosen.above, LEVELS)
    half = LEVELS // 2 + 1
    return np.concatenate([_along(chosen.below, half)[:0:-1], _along(chosen.above, half)])


def colors(signed: bool) -> Colors:
    """Return the (LEVELS, 3) colors of the values: diverging around the middle if signed, else dark to light."""
    return color_map(DIVERGING if signed else SEQUENTIAL)


@cache
def palette(signed: bool) -> Colors:
    """Return all 256 entries: the values' colors, then paper, ink and marks."""
    entries = np.zeros((256, 3), np.uint8)
    entries[:LEVELS] = colors(signed)
    darkness = np.linspace(0, 1, INK.stop - INK.start)[:, None]
    entries[INK] = np.round((1 - darkness) * _PAPER_COLOR + darkness * _INK_COLOR)
    entries[NONFINITE] = _NONFINITE_COLOR
    entries[HATCH] = _HATCH_COLOR
    return entries


def _along(anchors: Anchors, count: int) -> Colors:
    """`count` sRGB colors along a smooth path through anchors given as (lightness, chroma, hue)."""
    lightness, chroma, hue = np.array(anchors, float).T
    angle = np.radians(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    where = np.linspace(0, len(anchors) - 1, count)
    path = np.stack([_smooth(where, component) for component in lab.T], axis=1)
    return np.round(255 * _oklab_to_srgb(path)).astype(np.uint8)


def _smooth(where: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Monotone-friendly cubic interpolation through values at 0, 1, 2, ... (Catmull-Rom)."""
    slopes = np.gradient(values)
    left = np.minimum(where.astype(int), len(values) - 2)
    t = where - left
    return np.asarray(
        values[left] * (1 + 2 * t) * (1 - t) ** 2
        + slopes[left] * t * (1 - t) ** 2
        + values[left + 1] * t**2 * (3 - 2 * t)
        + slopes[left + 1] * t**2 * (t - 1)
    )


def _oklab_to_srgb(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """OKLab (N, 3) to gamma-encoded sRGB in [0, 1], clipped to the gamut [Ottosson 2020]."""
    to_cone = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_rgb.T, 0, 1)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
