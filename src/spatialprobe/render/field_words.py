"""Checks of receptive fields for pictures, and words about their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spatialprobe.errors import ArgumentError
from spatialprobe.text import kind_of

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField

_LINE_WORDS = (("positions", "before", "behind"),)
_AXIS_WORDS = (("slices", "before", "behind"), ("rows", "above", "below"), ("columns", "left of", "right of"))


def check_is_field(field: object) -> None:
    """Refuse what is no field, such as the fields of all layers.

    Raises:
        ArgumentError: it is none.
    """
    if not hasattr(field, "output_size"):
        raise ArgumentError(
            f"field is {kind_of(field)}: pass one layer's receptive field, such as "
            "sp.receptive_fields(model, images)['conv1']."
        )
    source = getattr(field, "source", None)
    if source is not None:
        raise ArgumentError(f"This field is in units of layer {source!r}, not in pixels: trace it without source=.")


def check_planar(field: ReceptiveField) -> None:
    """Refuse a field of other than two axes.

    Raises:
        ArgumentError: it has one axis, or three; or it is no field.
    """
    check_is_field(field)
    if len(field.input_size) != 2 or len(field.output_size) != 2:
        raise ArgumentError(
            f"The field of {field.layer!r} lies on inputs of {by(field.input_size)} and outputs of "
            f"{by(field.output_size)}: only fields of two axes can be drawn."
        )


def whole_box(field: ReceptiveField, unit: Sequence[int], channel: int | None) -> Box | None:
    """A unit's box with what of it lies in the padding; as it is in the image where the border does something else.

    So it is with padding that wraps round, say: the part of an unclipped box in the image is not what the unit sees.
    """
    seen, whole = field.box(*unit, channel=channel), field.box(*unit, channel=channel, clip=False)
    if seen is None or whole is None:
        return whole if seen is None else seen
    inside = [
        (max(start, 0), min(stop, size))
        for start, stop, size in zip(whole.start, whole.stop, field.input_size, strict=True)
    ]
    return whole if inside == list(zip(seen.start, seen.stop, strict=True)) else seen


def name_layer(layer: str) -> str:
    """A layer in a title."""
    return layer or "the model"


def by(size: Sequence[int]) -> str:
    """A size in words: 32 x 32."""
    return " x ".join(map(str, size))


def box_words(box: Box, size: Sequence[int]) -> str:
    """Return a box in words: rows and columns, both ends included, and how many pixels of how many.

    >>> from spatialprobe.fields.box import Box
    >>> box_words(Box(1, 2, 4, 4), (8, 8))
    'rows 1 to 3 and columns 2 to 3, 3 x 2 of 8 x 8 pixels'
    """
    axes = len(size)
    names = _LINE_WORDS if axes == 1 else _AXIS_WORDS[-axes:]
    ranges = [
        f"{name} {start} to {stop - 1}" for (name, _, _), start, stop in zip(names, box.start, box.stop, strict=True)
    ]
    sides = [stop - start for start, stop in zip(box.start, box.stop, strict=True)]
    words = ", ".join(ranges[:-1]) + " and " * (axes > 1) + ranges[-1]
    return f"{words}, {by(sides)} of {by(size)} {('values', 'pixels', 'voxels')[axes - 1]}"


def cut_words(whole: Box, size: Sequence[int]) -> str | None:
    """Return the words for the part of an unclipped box outside the image, None if there is none."""
    parts = []
    for (name, before, after), start, stop, length in zip(_AXIS_WORDS[-2:], whole.start, whole.stop, size, strict=True):
        parts += [f"{-start} {name} {before} the image"] if start < 0 else []
        parts += [f"{stop - length} {name} {after} the image"] if stop > length else []
    return f"The border cuts the field: {', '.join(parts)} are padding." if parts else None


def inexact_words(field: ReceptiveField) -> list[str]:
    """A warning in a list where a field may be too large; an empty list for an exact one."""
    if field.exact:
        return []
    reason = f", because of {', '.join(field.unknown)}" if field.unknown else ""
    return [f"The field may be smaller than shown{reason}."]
