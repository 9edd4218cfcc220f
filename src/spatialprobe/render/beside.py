"""The input beside its maps, with what the unit with the largest value sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.field_words import box_words, by, check_planar
from spatialprobe.render.images import Image, Normalization, Stretch, extremes_of, image_values, nonfinite_words
from spatialprobe.render.letters import LINE_HEIGHT
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.outline import outlined
from spatialprobe.render.panels import enlarge
from spatialprobe.render.scale import Values
from spatialprobe.render.sheet import Sheet

if TYPE_CHECKING:
    from spatialprobe.fields.result import ReceptiveField

_SIDE = 320  # pixels: small images are enlarged up to here
_GAP = 4  # pixels of paper around the image


def put_beside(
    mosaic: Mosaic,
    image: object,
    normalization: Normalization | None,
    maps: Values,
    channels: npt.NDArray[np.int64],
    field: ReceptiveField | None,
) -> Mosaic:
    """Return the picture of maps (C, *units) with the image at its left.

    Args:
        mosaic: the picture.
        image: what the model saw.
        normalization: of the image, to be undone.
        maps: the values of all channels.
        channels: those that are drawn, among which the largest value is looked for.
        field: the layer's, over two axes; without it no unit is shown on the image.

    Raises:
        ArgumentError: the image does not fit the field, or the field the maps.
    """
    if field is not None:
        check_planar(field)
    values = image_values(image, None if field is None else field.input_size, "The image", normalization)
    stretch = Stretch.of(*extremes_of(values))
    box, words = None, "At the left the input."
    if field is not None:
        channel, unit = _strongest(maps, channels, field)
        box = field.box(*unit, channel=channel)
        value = float(maps[channel][unit])
        seen = "nothing but padding" if box is None else box_words(box, field.input_size)
        words = (
            f"At the left the input, and what the unit with the largest value sees, {value:.4g} of channel {channel} "
            f"at {unit}: {seen}."
        )
    sheet = _joined(_input(values, stretch, box), mosaic)
    return replace(
        mosaic,
        pixels=sheet.pixels,
        colors=None,
        labels=tuple(sheet.labels),
        caption=" ".join([mosaic.caption, words, *stretch.words(), *nonfinite_words(values)]),
    )


def field_of(layer: str, call: int, field: ReceptiveField | Mapping[Any, ReceptiveField] | None) -> Any:
    """Return the field of a layer's run, of one field or of those of several layers.

    Raises:
        ArgumentError: it is not among them.
    """
    if field is None or not isinstance(field, Mapping):
        return field
    for key in ((layer, call), layer):
        try:
            return field[key]
        except LookupError:
            continue
    raise ArgumentError(
        f"The fields hold none of layer {layer!r}: trace it, sp.receptive_fields(model, images, layers=...)."
    )


def _strongest(maps: Values, channels: npt.NDArray[np.int64], field: ReceptiveField) -> tuple[int, tuple[int, ...]]:
    """The channel and unit with the largest finite value, the first of equals."""
    if tuple(maps.shape[1:]) != tuple(field.output_size):
        raise ArgumentError(
            f"The maps are of {by(maps.shape[1:])} units, the field of {field.layer!r} is of {by(field.output_size)}: "
            "pass the field of this layer, for inputs of this size."
        )
    shown = maps[channels].astype(np.float64)
    index = np.unravel_index(int(np.where(np.isfinite(shown), shown, -np.inf).argmax()), shown.shape)
    return int(channels[index[0]]), tuple(int(place) for place in index[1:])


def _input(values: Image, stretch: Stretch, box: Any) -> npt.NDArray[np.uint8]:
    """The image, enlarged, with a box outlined."""
    factor = max(1, _SIDE // max(values.shape[:2]))
    large = enlarge(stretch.pixels(values), factor)
    return large if box is None else outlined(large, box, factor, shaded=False)


def _joined(image: npt.NDArray[np.uint8], mosaic: Mosaic) -> Sheet:
    """The image under its name, and the maps at its right."""
    maps = Sheet(mosaic.array, list(mosaic.labels))
    left = max(image.shape[1], 40) + 3 * _GAP
    height = max(maps.height, image.shape[0] + LINE_HEIGHT + 2 * _GAP)
    sheet = Sheet.blank(height, left + maps.width, np.zeros((0, 0, 0, 3), np.uint8))
    sheet.write("input", _GAP, _GAP)
    top = _GAP + LINE_HEIGHT
    sheet.pixels[top : top + image.shape[0], _GAP : _GAP + image.shape[1]] = image
    sheet.paste(maps, 0, left)
    return sheet
