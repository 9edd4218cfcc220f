"""The patches of a data set that activate each channel most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_channels, check_function, check_switch
from spatialprobe.model.samples import ImageOf, Images, image_in
from spatialprobe.render.exemplar_checks import check_exemplars
from spatialprobe.render.field_words import check_planar, inexact_words, name_layer, whole_box
from spatialprobe.render.images import Image, Normalization, Stretch, extremes_of, image_values, nonfinite_words
from spatialprobe.render.letters import width_of
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.palette import HATCH, PAPER, palette
from spatialprobe.render.patch import cut_patch
from spatialprobe.render.rows import Rows, lay_out_rows
from spatialprobe.render.scale import Extremes
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.result import ReceptiveField
    from spatialprobe.statistics.exemplars import ExemplarsResult

_PIXEL, _PADDING, _EMPTY = range(3)  # what a place of a patch is; empty where its box is smaller than others
_PERIOD = 5  # pixels between the lines over padding
_MOST_PIXELS = 2**25  # of all patches together: what has more is thinned out


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

    A patch is exactly the pixels of the unit's box; where the box leaves the image it is hatched. Above it stands the
    unit's value and, after the #, the image's position in the data set. Exemplars know their layer, but neither weights
    nor images: of another training, or of other images as large, nothing here can tell.

    Args:
        exemplars: one layer's result of the `Exemplars` reducer: `values`, `samples` (C, k), `positions` (C, k, 2).
        dataset: what the reducer saw; `dataset[i]` is an image (3, H, W) or (1, H, W), in [0, 1] or uint8, a PIL image
            or an array (H, W, 3), or a tuple that begins with one. Images of another range are stretched, all alike,
            and the caption says so.
        field: the layer's `ReceptiveField`, over two axes.
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
    check_planar(field)
    check_switch(interior, "interior")
    check_function(image, "image", "lambda sample: sample['image']")
    shown = _shown(exemplars, field, channels)
    found = [_units(exemplars, channel, field, interior=interior) for channel in shown]
    units = [unit for row in found for unit in row]
    boxes = [_box(field, unit) for unit in units]
    cut = _Cut.of(boxes)
    pixels, ground, words = _patches(units, boxes, cut, dataset, field, Normalization.of(mean, std), image)
    labels, rows = _labelled(units, len(found[0]), cut)
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
class _Unit:
    """A unit of a sample; sample -1 is an empty place, where a channel has fewer than others."""

    sample: int
    y: int
    x: int
    channel: int
    value: float
    silent: bool  # of a channel that was never active, whose patches would mean nothing

    @property
    def shown(self) -> bool:
        """Whether there is a patch of it."""
        return self.sample >= 0 and not self.silent


@dataclass(frozen=True)
class _Cut:
    """The size of a patch on the sheet: that of the largest box, with only every n-th pixel where that is too many."""

    height: int  # pixels of the sheet's patch, before any magnification
    width: int
    every: int

    @staticmethod
    def of(boxes: Sequence[Box | None]) -> _Cut:
        sides = [[stop - start for start, stop in zip(box.start, box.stop, strict=True)] for box in boxes if box]
        height, width = np.max(sides, axis=0).tolist() if sides else (1, 1)
        every = int(np.ceil((len(boxes) * height * width / _MOST_PIXELS) ** 0.5))
        return _Cut(-(-height // every), -(-width // every), every)


def _shown(exemplars: ExemplarsResult, field: ReceptiveField, channels: Sequence[int] | None) -> list[int]:
    """The channels to draw."""
    count = len(exemplars.values)
    if channels is None:
        return list(range(count))
    return list(map(int, as_channels(channels, count, f"Layer {field.layer!r}")))


def _units(exemplars: ExemplarsResult, channel: int, field: ReceptiveField, *, interior: bool) -> list[_Unit]:
    """The units of a channel, the strongest first; of these, where asked, those that the border does not cut."""
    values = exemplars.values[channel].tolist()
    silent = not np.nan_to_num(values).any()
    places = zip(exemplars.samples[channel].tolist(), exemplars.positions[channel].tolist(), values, strict=True)
    units = [_Unit(sample, y, x, channel, value, silent) for sample, (y, x), value in places]
    return sorted(units, key=lambda unit: _leaves_image(field, unit)) if interior else units


def _leaves_image(field: ReceptiveField, unit: _Unit) -> bool:
    """Return whether the border cuts a unit's field; the field of an empty place counts as cut."""
    box = _box(field, unit)
    if box is None:
        return True
    return any(
        start < 0 or stop > size for start, stop, size in zip(box.start, box.stop, field.input_size, strict=True)
    )


def _box(field: ReceptiveField, unit: _Unit) -> Box | None:
    """The unclipped box of a unit, None if it sees only padding, or for an empty place."""
    return None if not unit.shown else whole_box(field, (unit.y, unit.x), unit.channel)


def _patches(
    units: Sequence[_Unit],
    boxes: Sequence[Box | None],
    cut: _Cut,
    dataset: Images,
    field: ReceptiveField,
    normalization: Normalization | None,
    image_of_sample: ImageOf | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[str]]:
    """The patches (M, h, w, 3), what each of their places is (M, h, w), and how values are shown, in words.

    Each image is read once.
    """
    values = np.zeros((len(units), cut.height, cut.width, 3), np.float32)
    ground = np.full(values.shape[:3], _EMPTY, np.uint8)
    low, high = (np.inf, -np.inf) if any(unit.shown for unit in units) else (0.0, 1.0)
    wanted: dict[int, list[int]] = {}
    for index, unit in enumerate(units):
        if unit.shown:
            wanted.setdefault(unit.sample, []).append(index)
    for sample in sorted(wanted):
        image = image_of(dataset, sample, field, normalization, image_of_sample)
        least, most = extremes_of(image)
        low, high = min(low, least), max(high, most)
        for index in wanted[sample]:
            _place(image, boxes[index], cut.every, values[index], ground[index])
    stretch = Stretch.of(low, high)
    return stretch.pixels(values), ground, [*stretch.words(), *nonfinite_words(values)]


def image_of(
    dataset: Images,
    sample: int,
    field: ReceptiveField,
    normalization: Normalization | None = None,
    image: ImageOf | None = None,
) -> Image:
    """A sample's image, channels last.

    Raises:
        ArgumentError: the sample is no image of the field's size.
    """
    return image_values(
        image_in(dataset[sample], image), field.input_size, f"Sample {sample} of the data set", normalization
    )


def _place(
    image: Image, box: Box | None, every: int, values: npt.NDArray[np.float32], ground: npt.NDArray[np.uint8]
) -> None:
    """Write the box's pixels, and on the ground where they are and where padding is."""
    if box is None:
        return
    patch, inside = cut_patch(image, box, every=every)
    corner = tuple(map(slice, inside.shape))
    values[corner] = patch
    ground[corner] = np.where(inside, _PIXEL, _PADDING)


def _enlarged(pixels: npt.NDArray[np.uint8], ground: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """The patches with each pixel as a square of pixels, and fine lines over the padding."""
    large, places = (part.repeat(factor, axis=1).repeat(factor, axis=2) for part in (pixels, ground))
    lines = np.add.outer(np.arange(large.shape[1]), np.arange(large.shape[2])) % _PERIOD == 0
    large[places != _PIXEL] = palette(False)[PAPER]
    large[(places == _PADDING) & lines] = palette(False)[HATCH]
    return large


def _labelled(units: Sequence[_Unit], columns: int, cut: _Cut) -> tuple[list[str], Rows]:
    """Return the label of each patch, and the rows of patches, which are wide enough for it."""
    labels = [f"{unit.value:.3g} #{unit.sample}" if unit.shown else "" for unit in units]
    for first in range(0, len(units), columns):
        if units[first].silent:
            labels[first] = "never active"
    return labels, Rows.of(len(units) // columns, columns, cut.height, cut.width, max(map(width_of, labels)))


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
        f"{len(shown)} of {format_count(len(exemplars.values), 'channel')} shown, a row each: the largest value of a "
        "unit, # the image's position in the data set, and the pixels that the unit sees, padding hatched."
    ]
    if cut.every > 1:
        ordinal = {2: "2nd", 3: "3rd"}.get(cut.every, f"{cut.every}th")
        words.append(f"To fit, only every {ordinal} pixel of each row and column is shown.")
    if interior:
        words.append("Units whose field the border does not cut come first.")
    swept_at = getattr(exemplars, "at", None)
    if swept_at == "post_activation" and getattr(field, "at", "output") != swept_at:
        words.append("Values are those after the layer's nonlinearity, boxes those of its own output.")
    return [*words, *inexact_words(field), *shading]
