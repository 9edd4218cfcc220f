"""What a layer's units contribute to an answer, over the input."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.render.field_words import box_words
from spatialprobe.render.images import Image, Stretch, extremes_of, nonfinite_words
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.outline import MARGIN, outlined
from spatialprobe.render.palette import LEVELS, palette
from spatialprobe.render.panels import Pixels, enlarge, lay_out_panels
from spatialprobe.render.scale import choose_scale, quantize
from spatialprobe.render.signals import line_tiles, signal_words
from spatialprobe.render.solids import middle_slice, planar

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField

Floats = npt.NDArray[np.float64]

_SIDE = 288  # pixels: small inputs are enlarged up to here
_LONGEST = 512  # values of a signal: a longer one is thinned out
_GRAY = np.array([0.299, 0.587, 0.114])
_LEAST = 0.35  # of the distance from the image's gray to white, that is left where nothing contributes
_SOLID = 0.95  # of a color over the image at the end of the scale
_HUE = 0.88  # where on the color map the colors over the image are taken, of the positive sign


def attribution_map(
    contributions: Floats,
    image: Image,
    *,
    reach: float,
    scope: str,
    field: ReceptiveField | None,
    title: str,
    words: list[str],
) -> Mosaic:
    """Return the picture of one image's map (h, w): the input, the map, and the map over the input.

    Colors show the contribution per input pixel, each unit's spread evenly over the pixels that are nearest to the
    middle of its field; so layers of different sizes are comparable. Of a volume the slice is shown that lies in the
    middle of what the strongest unit sees; a signal is shown as lines.

    Args:
        contributions: (h, w), signed; (w,) of a signal, (d, h, w) of a volume.
        image: (H, W, channels), with as many axes.
        reach: the end of the scale, per input pixel.
        scope: what the scale holds for.
        field: of the units; None where it is not known.
        title: what is shown.
        words: what the caption says besides, before the scale and the unit.
    """
    size = image.shape[:-1]
    density = contributions * (contributions.size / prod(size))
    lines = [nearest_units(field, axis, contributions.shape[axis], pixels) for axis, pixels in enumerate(size)]
    place = tuple(int(one) for one in np.unravel_index(int(np.abs(contributions).argmax()), contributions.shape))
    box = None if field is None else field.box(*place)
    scale = choose_scale(density[None], (-(reach or 1.0), reach or 1.0))
    canvas = (_line, _picture, _slice)[len(size) - 1](image, density[np.ix_(*lines)], box, lines[0] == place[0])
    colored = palette(True)[quantize(canvas.spread[None], scale)[0]]
    over = _over(canvas.pixels, canvas.spread, reach)
    panels = {
        "input": outlined(enlarge(canvas.pixels, canvas.factor), canvas.box, canvas.factor, shaded=False),
        "contributions": outlined(enlarge(colored, canvas.factor), None, canvas.factor, shaded=False),
        "over the input": outlined(enlarge(over, canvas.factor), None, canvas.factor, shaded=False),
    }
    sheet = lay_out_panels(panels, margin=MARGIN)
    noun = ("position", "pixel", "voxel")[len(size) - 1]
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=title,
        caption=" ".join(
            [
                *words,
                f"Violet speaks for it, orange against it, per input {noun}; over the input the more solid, the more.",
                scale.words(scope).replace("One given scale", f"One scale for {scope}"),
                _unit_words(float(contributions[place]), place, field, box),
                *canvas.words,
                *nonfinite_words(image),
            ]
        ),
        color_bar=ColorBar.of(scale),
        metadata={"Software": "spatialprobe", "Scale": scale.words()},
    )


@dataclass(frozen=True, eq=False)
class _Canvas:
    """What is drawn of an input, and what is spread over it."""

    pixels: Pixels  # (h, w, 3)
    spread: Floats  # (h, w)
    box: Box | None  # of the strongest unit, in these pixels
    factor: int  # by which all of it is enlarged
    words: list[str]


def _picture(image: Image, spread: Floats, box: Box | None, _: npt.NDArray[np.bool_]) -> _Canvas:
    """Return an image (H, W, channels) as it is."""
    stretch = Stretch.of(*extremes_of(image))
    return _Canvas(stretch.pixels(image), spread, box, max(1, _SIDE // max(spread.shape)), stretch.words())


def _slice(image: Image, spread: Floats, box: Box | None, near: npt.NDArray[np.bool_]) -> _Canvas:
    """Return the slice of a volume (D, H, W, channels) in the middle of a box, or of the slices near the unit."""
    stretch = Stretch.of(*extremes_of(image))
    depth = len(image)
    middle = int(np.flatnonzero(near)[near.sum() // 2]) if near.any() else depth // 2
    z = middle if box is None else middle_slice(box, depth)
    factor = max(1, _SIDE // max(spread.shape[1:]))
    words = [f"Of {depth} slices number {z} is shown, in the middle of what the strongest unit sees.", *stretch.words()]
    return _Canvas(stretch.pixels(image[z]), spread[z], box and planar(box), factor, words)


def _line(image: Image, spread: Floats, box: Box | None, _: npt.NDArray[np.bool_]) -> _Canvas:
    """Return the lines of a signal (L, channels), of a long one those of every n-th value."""
    every = -(-len(image) // _LONGEST)
    values = image[::every]
    tiles, wide = line_tiles(values[None], np.ones((1, len(values)), np.bool_))
    pixels = palette(True)[tiles[0]]
    across = np.broadcast_to(spread[::every].repeat(wide), pixels.shape[:2])
    words = [] if every == 1 else [f"To fit, only one of {every} positions is shown."]
    seen = box and type(box)(0, box.start[0] * wide // every, len(pixels), -(-box.stop[0] * wide // every))
    return _Canvas(pixels, across, seen, 1, [signal_words(image.shape[-1]), *words])


def nearest_units(field: ReceptiveField | None, axis: int, units: int, pixels: int) -> npt.NDArray[np.int64]:
    """Return for each pixel along an axis the unit whose field has its middle nearest, (pixels,).

    Where middles do not follow each other, or the field is not known, units lie evenly.
    """
    middles = (np.arange(units) + 0.5) * pixels / units
    if field is not None:
        boxes = field.boxes(clip=False)
        axes = boxes.shape[-1] // 2
        line = np.moveaxis(boxes, axis, 0).reshape(units, -1, 2 * axes)[:, 0]
        found = (line[:, axis] + line[:, axes + axis]) / 2
        if units == 1 or (np.diff(found) > 0).all():
            middles = found
    between = (middles[1:] + middles[:-1]) / 2
    return np.searchsorted(between, np.arange(pixels) + 0.5, side="right").astype(np.int64)


def _over(pixels: Pixels, spread: Floats, reach: float) -> Pixels:
    """Return the gray image, faint, under the colors of both signs, the more solid the larger the contribution."""
    gray = (255 - (1 - _LEAST) * (255 - pixels @ _GRAY))[..., None]
    against, speaking = (palette(True)[round(place * (LEVELS - 1))] for place in (1 - _HUE, _HUE))
    colors = np.where((spread > 0)[..., None], speaking, against)
    share = (_SOLID * np.clip(np.abs(spread) / (reach or 1.0), 0, 1) ** 0.5)[..., None]
    mixed: Pixels = np.round((1 - share) * gray + share * colors).astype(np.uint8)
    return mixed


def _unit_words(value: float, place: tuple[int, ...], field: ReceptiveField | None, box: Box | None) -> str:
    """Return what the strongest unit contributes, and which pixels it sees."""
    found = f"The strongest unit, {place if len(place) > 1 else place[0]}, contributes {value:+.3g}"
    if field is None or box is None:
        return f"{found}."
    return f"{found} and sees {box_words(box, field.input_size)} (the frame)."
