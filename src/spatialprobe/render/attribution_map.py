"""What a layer's units contribute to an answer, over the input, on a scale that holds for all layers and images."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField

Floats = npt.NDArray[np.float64]

_SIDE = 288  # pixels: small inputs are enlarged up to here
_GRAY = np.array([0.299, 0.587, 0.114])
_LEAST = 0.35  # of the distance from the image's gray to white, that is left where nothing contributes
_SOLID = 0.95  # of a color over the image at the end of the scale
_HUE = 0.88  # where on the color map the colors over the image are taken, of the positive sign


def attribution_map(
    contributions: Floats, image: Image, *, reach: float, field: ReceptiveField | None, title: str, words: list[str]
) -> Mosaic:
    """Return the picture of one image's map (h, w): the input, the map, and the map over the input.

    Colors show the contribution per input pixel, each unit's spread evenly over the pixels that are nearest to the
    middle of its field; so layers of different sizes are comparable.

    Args:
        contributions: (h, w), signed.
        image: (H, W, channels).
        reach: the end of the scale, per input pixel.
        field: of the units; None where it is not known.
        title: what is shown.
        words: what the caption says besides, before the scale and the unit.
    """
    size = image.shape[:2]
    density = contributions * (contributions.size / (size[0] * size[1]))
    rows, columns = (nearest_units(field, axis, contributions.shape[axis], size[axis]) for axis in (0, 1))
    spread = density[rows][:, columns]
    scale = choose_scale(spread[None], (-(reach or 1.0), reach or 1.0))
    colored = palette(True)[quantize(spread[None], scale)[0]]
    stretch = Stretch.of(*extremes_of(image))
    pixels = stretch.pixels(image)
    unit = np.unravel_index(int(np.abs(contributions).argmax()), contributions.shape)
    factor = max(1, _SIDE // max(size))
    over = _over(pixels, spread, reach)
    panels = {
        "input": outlined(enlarge(pixels, factor), _box_of(field, unit), factor, shaded=False),
        "contributions": outlined(enlarge(colored, factor), None, factor, shaded=False),
        "over the input": outlined(enlarge(over, factor), None, factor, shaded=False),
    }
    sheet = lay_out_panels(panels, margin=MARGIN)
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=title,
        caption=" ".join(
            [
                *words,
                "Violet speaks for it, orange against it, per input pixel; over the input the more solid, the more.",
                scale.words("all layers and images").replace("One given scale", "One scale for all layers and images"),
                _unit_words(contributions, unit, field),
                *stretch.words(),
                *nonfinite_words(image),
            ]
        ),
        color_bar=ColorBar.of(scale),
        metadata={"Software": "spatialprobe", "Scale": scale.words()},
    )


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


def _box_of(field: ReceptiveField | None, unit: tuple[np.intp, ...]) -> Box | None:
    return None if field is None else field.box(*(int(place) for place in unit))


def _unit_words(contributions: Floats, unit: tuple[np.intp, ...], field: ReceptiveField | None) -> str:
    """Return what the strongest unit contributes, and which pixels it sees."""
    place = tuple(int(one) for one in unit)
    found = f"The strongest unit, {place}, contributes {contributions[place]:+.3g}"
    box = _box_of(field, unit)
    if field is None or box is None:
        return f"{found}."
    return f"{found} and sees {box_words(box, field.input_size)} (the frame)."
