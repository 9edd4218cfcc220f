"""The patches of a data set that activate each channel most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_channels, check_function, check_switch
from spatialprobe.errors import ArgumentError
from spatialprobe.model.samples import ImageOf, Images, image_in
from spatialprobe.render.exemplar_checks import check_exemplars
from spatialprobe.render.exemplar_units import Unit, box_of, units_of
from spatialprobe.render.field_words import by, inexact_words, name_layer
from spatialprobe.render.images import Image, Normalization, Stretch, extremes_of, image_values, nonfinite_words
from spatialprobe.render.letters import width_of
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.palette import HATCH, PAPER, palette
from spatialprobe.render.patch import cut_patch
from spatialprobe.render.rows import Rows, lay_out_rows
from spatialprobe.render.scale import Extremes
from spatialprobe.render.signals import line_tiles, signal_values, signal_words
from spatialprobe.render.solids import middle_slice, planar, volume_values
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField
    from spatialprobe.statistics.exemplars import ExemplarsResult

_PIXEL, _PADDING, _EMPTY = range(3)  # what a place of a patch is; empty where its box is smaller than others
_PERIOD = 5  # pixels between the lines over padding
_MOST_PIXELS = 2**25  # of all patches together: what has more is thinned out
_LONGEST_LINE = 384  # values of a signal's patch: a longer one is thinned out
_PATCH_WORDS = {  # by the axes of the input
    1: "the signal's position in the data set",
    2: "the image's position in the data set",
    3: "the volume's position in the data set and, after z, the number of the slice, which is the middle one",
}


def exemplar_patches(
    exemplars: ExemplarsResult,
    dataset: Images,
    field: ReceptiveField,
    *,
    channels: Sequence[int] | None = None,
    interior: bool = False,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    image: ImageOf | None = None,
) -> Mosaic:
    """For each channel a row of the input patches that its strongest units saw, the strongest first.

    A patch is exactly the pixels of the unit's box; where the box leaves the image it is hatched. Of a volume it is the
    slice through the middle of the box, of a signal its lines. Above it stands the unit's value and, after the #, the
    image's position in the data set; of a volume, after a z, the slice. Exemplars know their layer, but neither weights
    nor images: of another training, or of other images as large, nothing here can tell.

    Args:
        exemplars: one layer's result of the `Exemplars` reducer: `values`, `samples` (C, k), `positions` (C, k, axes).
        dataset: what the reducer saw; `dataset[i]` is an image (3, H, W) or (1, H, W), in [0, 1] or uint8, a PIL image
            or an array (H, W, 3); a signal (C, L) or a volume (C, D, H, W); or a tuple that begins with one. Of images
            (C, H, W) and volumes of another number of channels the mean is drawn. Images of another range are
            stretched, all alike, and the caption says so.
        field: the layer's `ReceptiveField`.
        channels: which channels, and in which order; all if left out.
        interior: show those units of a channel first whose field the border does not cut: what a channel answers to
            is clearer without the edge of the image.
        mean: what the images were normalized by, one number or one for each channel, so that they look as before.
        std: the same.

        image: a function `sample -> image` for data sets whose samples are neither images nor tuples that begin with
            one, nor mappings with exactly one tensor (C, H, W) that is no label.

    Raises:
        ArgumentError: the exemplars are of another layer than the field, a channel is not there, or the data set holds
            something else than images of the field's size.

    >>> import torch, spatialprobe as sp
    >>> conv, images = torch.nn.Conv2d(3, 4, 5), torch.rand(50, 3, 16, 16)
    >>> top = sp.sweep(conv, images, {"top": sp.Exemplars}, progress=False)[""]["top"]
    >>> patches = sp.exemplar_patches(top, images, sp.receptive_fields(conv, (1, 3, 16, 16))[""], channels=[0, 2])
    >>> patches.array.ndim, patches.array.dtype  # .save("patches.png"), .figure()
    (3, dtype('uint8'))
    """
    check_exemplars(exemplars, dataset, field)
    _check_axes(field)
    check_switch(interior, "interior")
    check_function(image, "image", "lambda sample: sample['image']")
    shown = _shown(exemplars, field, channels)
    found = [units_of(exemplars, channel, field, interior=interior) for channel in shown]
    units = [unit for row in found for unit in row]
    boxes = [box_of(field, unit) for unit in units]
    cut = _Cut.of(boxes)
    values, ground, low, high = _values(units, boxes, cut, dataset, field, Normalization.of(mean, std), image)
    if len(field.input_size) == 1:
        pixels, ground, words = _as_lines(values, ground)
    else:
        stretch = Stretch.of(low, high)
        pixels, words = stretch.pixels(values), [*stretch.words(), *nonfinite_words(values)]
    slices = [_slice_of(field, box) for box in boxes]
    labels, rows = _labelled(units, slices, len(found[0]), (ground.shape[1], ground.shape[2]))
    names = [str(channel) for channel in shown]
    sheet = lay_out_rows(_enlarged(pixels, ground, rows.factor), labels, names, rows.enlarged())
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=f"{name_layer(field.layer)}, the {format_count(len(found[0]), 'patch')} that activate each channel most",
        caption=" ".join(_words(exemplars, field, shown, cut, words, interior=interior)),
        metadata={
            "Software": "spatialprobe",
            "Layer": field.layer,
            "Channels": " ".join(map(str, shown)),
            "Samples": " ".join(str(unit.sample) for unit in units if not unit.silent),
            "Value range": Extremes.of(exemplars.values[shown].cpu().numpy()).words(),
        },
    )


@dataclass(frozen=True)
class _Cut:
    """The size of a patch on the sheet: that of the largest box, with only every n-th pixel where that is too many."""

    height: int  # pixels of the sheet's patch, before any magnification
    width: int
    every: int

    @staticmethod
    def of(boxes: Sequence[Box | None]) -> _Cut:
        sides = [box.shape[-2:] for box in boxes if box]
        *height, width = np.max(sides, axis=0).tolist() if sides else (1, 1)
        if not height:  # a signal, whose lines are of pixels
            every = -(-width // _LONGEST_LINE)
            return _Cut(1, -(-width // every), every)
        every = int(np.ceil((len(boxes) * height[0] * width / _MOST_PIXELS) ** 0.5))
        return _Cut(-(-height[0] // every), -(-width // every), every)


def _check_axes(field: ReceptiveField) -> None:
    """Check that a field lies on signals, images or volumes.

    Raises:
        ArgumentError: it does not.
    """
    if len(field.input_size) not in _PATCH_WORDS:
        raise ArgumentError(
            f"The field of {field.layer!r} lies on inputs of {by(field.input_size)}: only patches of signals, images "
            "and volumes can be drawn."
        )


def _shown(exemplars: ExemplarsResult, field: ReceptiveField, channels: Sequence[int] | None) -> list[int]:
    """The channels to draw."""
    count = len(exemplars.values)
    if channels is None:
        return list(range(count))
    return list(map(int, as_channels(channels, count, f"Layer {field.layer!r}")))


def _slice_of(field: ReceptiveField, box: Box | None) -> int | None:
    """The slice of a volume that is shown of a box, None where the input is no volume."""
    return middle_slice(box, field.input_size[0]) if box and len(field.input_size) == 3 else None


def _values(
    units: Sequence[Unit],
    boxes: Sequence[Box | None],
    cut: _Cut,
    dataset: Images,
    field: ReceptiveField,
    normalization: Normalization | None,
    image_of_sample: ImageOf | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], float, float]:
    """The values of patches (M, h, w, channels), what their places are (M, h, w), and the extremes of the images.

    Each image is read once.
    """
    ground = np.full((len(units), cut.height, cut.width), _EMPTY, np.uint8)
    values = np.zeros((*ground.shape, 3), np.float32)
    low, high = (np.inf, -np.inf) if any(unit.shown for unit in units) else (0.0, 1.0)
    wanted: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        if unit.shown:
            wanted.setdefault(unit.sample, []).append(index)
    for sample in sorted(wanted):
        image = image_of(dataset, sample, field, normalization, image_of_sample)
        least, most = extremes_of(image)
        low, high = min(low, least), max(high, most)
        if len(field.input_size) == 1 and values.shape[-1] != image.shape[-1]:
            values = np.zeros((*ground.shape, image.shape[-1]), np.float32)
        for index in wanted[sample]:
            _place(image, boxes[index], cut.every, values[index], ground[index])
    return values, ground, low, high


def image_of(
    dataset: Images,
    sample: int,
    field: ReceptiveField,
    normalization: Normalization | None = None,
    image: ImageOf | None = None,
) -> Image:
    """A sample's image, signal or volume, channels last; other than one or three channels of pixels become their mean.

    Raises:
        ArgumentError: the sample is none of the field's size.
    """
    found, size, what = image_in(dataset[sample], image), field.input_size, f"Sample {sample} of the data set"
    if len(size) == 1:
        return signal_values(found, size, what)
    if len(size) == 3:
        return volume_values(found, size, what, normalization)
    return image_values(found, size, what, normalization, averages=True)


def _place(
    image: Image, box: Box | None, every: int, values: npt.NDArray[np.float32], ground: npt.NDArray[np.uint8]
) -> None:
    """Write the box's pixels, of a volume those of one slice, and on the ground where they are and where padding is."""
    if box is None:
        return
    if image.ndim == 4:
        image, box = image[middle_slice(box, len(image))], planar(box)
    patch, inside = cut_patch(image, box, every=every)
    patch, inside = (patch[None], inside[None]) if len(box.shape) == 1 else (patch, inside)
    corner = tuple(map(slice, inside.shape))
    values[corner] = patch
    ground[corner] = np.where(inside, _PIXEL, _PADDING)


def _as_lines(
    values: npt.NDArray[np.float32], ground: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[str]]:
    """Patches of signals (M, 1, L, C) as pictures (M, h, w, 3), what each of their places is, and words."""
    tiles, wide = line_tiles(values[:, 0], ground[:, 0] == _PIXEL)
    places = ground.repeat(wide, axis=2).repeat(tiles.shape[1], axis=1)
    return palette(True)[tiles], places, [signal_words(values.shape[-1])]


def _enlarged(pixels: npt.NDArray[np.uint8], ground: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """The patches with each pixel as a square of pixels, and fine lines over the padding."""
    large, places = (part.repeat(factor, axis=1).repeat(factor, axis=2) for part in (pixels, ground))
    lines = np.add.outer(np.arange(large.shape[1]), np.arange(large.shape[2])) % _PERIOD == 0
    large[places != _PIXEL] = palette(False)[PAPER]
    large[(places == _PADDING) & lines] = palette(False)[HATCH]
    return large


def _labelled(
    units: Sequence[Unit], slices: Sequence[int | None], columns: int, size: tuple[int, int]
) -> tuple[list[str], Rows]:
    """Return the label of each patch, and the rows of patches, which are wide enough for it."""
    ends = ["" if one is None else f" z{one}" for one in slices]
    labels = [
        f"{unit.value:.3g} #{unit.sample}{end}" if unit.shown else "" for unit, end in zip(units, ends, strict=True)
    ]
    for first in range(0, len(units), columns):
        if units[first].silent:
            labels[first] = "never active"
    return labels, Rows.of(len(units) // columns, columns, size[0], size[1], max(map(width_of, labels)))


def _words(
    exemplars: ExemplarsResult,
    field: ReceptiveField,
    shown: list[int],
    cut: _Cut,
    shading: list[str],
    *,
    interior: bool,
) -> list[str]:
    """Return the sentences that say how to read the sheet."""
    words = [
        f"{len(shown)} of {format_count(len(exemplars.values), 'channel')} shown, a row each, its number at the left: "
        "what its strongest units see, the strongest first. Above each patch stands the unit's value and, after #, "
        f"{_PATCH_WORDS[len(field.input_size)]}. Padding is hatched."
    ]
    if cut.every > 1 and len(field.input_size) == 1:
        words.append(f"To fit, only one of {cut.every} positions is shown.")
    elif cut.every > 1:
        ordinal = {2: "2nd", 3: "3rd"}.get(cut.every, f"{cut.every}th")
        words.append(f"To fit, only every {ordinal} pixel of each row and column is shown.")
    if interior:
        words.append("Units whose field the border does not cut come first.")
    swept_at = getattr(exemplars, "at", None)
    if swept_at == "post_activation" and getattr(field, "at", "output") != swept_at:
        words.append("Values are those after the layer's nonlinearity, boxes those of its own output.")
    return [*words, *inexact_words(field), *shading]
