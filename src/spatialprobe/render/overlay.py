"""The receptive field of a unit over the image that the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spatialprobe.arguments import as_ints, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.render.field_words import (
    box_words,
    by,
    check_planar,
    cut_words,
    inexact_words,
    name_layer,
    whole_box,
)
from spatialprobe.render.images import Normalization, Stretch, extremes_of, image_values, nonfinite_words
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.outline import outlined
from spatialprobe.render.panels import enlarge

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField

_SIDE = 512  # pixels: small images are enlarged up to here


def receptive_field_overlay(
    image: object,
    field: ReceptiveField,
    unit: tuple[int, int],
    *,
    channel: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Mosaic:
    """The box of one unit over its input image, what lies outside shaded.

    The outline, white and around it black, lies outside the box, so that it hides none of its pixels and stands out
    from any image. A box that the border cuts is said to be so.

    Args:
        image: (3, H, W) or (1, H, W) as the model saw it, in [0, 1] or uint8, or a PIL image or array (H, W, 3);
            values of another range are stretched, and the caption says so.
        field: the `ReceptiveField` of a layer, over two axes.
        unit: its position (y, x) in the layer's maps.
        channel: the unit's channel, where the channels of a layer see different pixels.
        mean: what the image was normalized by, one number or one for each channel, so that it looks as it did before.
        std: the same.

    Raises:
        ArgumentError: the image is of another size than the field's inputs, or there is no such unit.

    >>> import torch, spatialprobe as sp
    >>> field = sp.receptive_fields(torch.nn.Conv2d(3, 4, 5, padding=2), (1, 3, 32, 32))[""]
    >>> overlay = sp.receptive_field_overlay(torch.rand(3, 32, 32), field, (0, 9))
    >>> overlay.caption
    'The unit (0, 9) sees rows 0 to 2 and columns 7 to 11, 3 x 5 of 32 x 32 pixels. ...'
    """
    check_planar(field)
    values = image_values(image, field.input_size, "The image", Normalization.of(mean, std))
    place = _checked(unit, field)
    box = field.box(*place, channel=channel)
    whole = whole_box(field, place, channel)
    stretch = Stretch.of(*extremes_of(values))
    factor = max(1, _SIDE // max(field.input_size))
    large = enlarge(stretch.pixels(values), factor)
    of_channel = "" if channel is None else f" of channel {channel}"
    name = f"unit ({place[0]}, {place[1]}){of_channel}"
    cut = cut_words(whole, field.input_size) if box and whole else None
    words = [_seen(name, box, field), *([cut] if cut else []), *inexact_words(field)]
    words += [*stretch.words(), *nonfinite_words(values)]
    return Mosaic(
        pixels=outlined(large, box, factor),
        title=f"{name_layer(field.layer)}, what {name} sees",
        caption=" ".join(words),
        metadata={
            "Software": "spatialprobe",
            "Layer": field.layer,
            "Unit": name,
            "Box": box_words(box, field.input_size) if box else "empty",
            "Value range": "{:.6g} to {:.6g}".format(*extremes_of(values)),
        },
    )


def _checked(unit: tuple[int, int], field: ReceptiveField) -> tuple[int, int]:
    """The unit as two integers, if the layer has it."""
    place = as_ints(unit, "unit")
    y, x = place if len(place) == 2 else (-1, -1)
    if not (0 <= y < field.output_size[0] and 0 <= x < field.output_size[1]):
        raise ArgumentError(
            f"Layer {field.layer!r} has maps of {by(field.output_size)} units, (0, 0) to "
            f"({field.output_size[0] - 1}, {field.output_size[1] - 1}): there is no unit {short_repr(unit)}."
        )
    return y, x


def _seen(name: str, box: Box | None, field: ReceptiveField) -> str:
    if box is None:
        return f"The {name} sees nothing of the image, only padding."
    everything = tuple(box.start) == (0, 0) and tuple(box.stop) == tuple(field.input_size)
    return f"The {name} sees {'the whole image: ' if everything else ''}{box_words(box, field.input_size)}."
