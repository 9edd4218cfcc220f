"""The picture of an attribution: its map over the image, with what its strongest unit sees and how it was checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import torch

from spatialprobe.arguments import as_int, check_one_of, short_repr
from spatialprobe.errors import ArgumentError, SpatialProbeError
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.batch import BatchReader, tensors_of
from spatialprobe.render.attribution_map import attribution_map
from spatialprobe.render.field_words import name_layer
from spatialprobe.render.images import Image, Normalization, image_values
from spatialprobe.render.mosaic import Mosaic
from spatialprobe.render.signals import signal_values
from spatialprobe.render.solids import volume_values
from spatialprobe.text import format_count, kind_of

if TYPE_CHECKING:
    from spatialprobe.attribution.result import Attribution

MapScale: TypeAlias = Literal["layer", "all"]  # what one scale holds for: all images of a layer, or all layers too

_PALE = 0.3  # of the scale of all layers: colors of a layer that takes less of it are hard to see
_PLANAR = 2
_READERS: Mapping[int, Callable[[object, Normalization | None], Image]] = {  # by the axes of units and input
    1: lambda signal, _: signal_values(signal, None, "The signal"),
    2: lambda image, normalization: image_values(image, None, "The image", normalization),
    3: lambda volume, normalization: volume_values(volume, None, "The volume", normalization),
}


class Check(Protocol):
    """How an attribution was checked by removing channels, as `evidence.channel_deletion` returns it."""

    @property
    def layer(self) -> str:
        """The name of the layer."""

    @property
    def call(self) -> int:
        """Which of its runs."""

    def words(self, sample: int | None = None) -> str:
        """Return what was found, for one image or on average."""


def draw_attribution(
    attribution: Attribution,
    sample: int,
    check: Check | None,
    image: object,
    mean: object,
    std: object,
    scale: object = "all",
) -> Mosaic:
    """Return the picture of one image's map.

    Raises:
        ArgumentError: there is no map, no such sample, or no image to draw it over; or the check is of
            another layer.
    """
    if attribution.map is None:
        raise ArgumentError(
            f"Ablation measures one number for each channel and has no map: read attribution.channels of layer "
            f"{attribution.layer!r}, or use another method."
        )
    check_one_of(scale, "scale", MapScale)
    axes = attribution.map.ndim - 1
    if axes not in _READERS:
        raise ArgumentError(
            f"The map of layer {attribution.layer!r} has units {tuple(attribution.map.shape[1:])}: only maps over one, "
            "two or three axes can be drawn over a signal, an image or a volume."
        )
    count = len(attribution.score)
    if not -count <= as_int(sample, "sample") < count:
        raise ArgumentError(f"There is no sample {sample}: the attribution is of {format_count(count, 'image')}.")
    sample %= count
    shown = _image_of(attribution, sample) if image is None else image
    values = _READERS[axes](shown, Normalization.of(mean, std))
    field, unknown = _field_of(attribution, values.shape[:-1])
    return attribution_map(
        attribution.map[sample].double().numpy(),
        values,
        reach=(attribution.reach if scale == "layer" else attribution._question.reach) / prod(values.shape[:-1]),
        scope="all images of this layer" if scale == "layer" else "all layers and images",
        field=field,
        title=f"{name_layer(attribution.layer)}: what {_score_words(attribution, sample)} rests on",
        words=[
            *_words(attribution, sample),
            _check_words(attribution, sample, check),
            *_pale_words(attribution, scale),
            *unknown,
        ],
    )


def _score_words(attribution: Attribution, sample: int) -> str:
    target = int(attribution.target[sample])
    of = "the score" if target < 0 else f"the score of class {target}"
    return f"{of}, {float(attribution.score[sample]):.3g},"


def _words(attribution: Attribution, sample: int) -> list[str]:
    """Return the method, the strongest channels and the sum, in sentences."""
    method = attribution.method.replace("_x_", " times ").replace("_", " ")
    top = attribution.top(min(3, attribution.channels.shape[1]))[sample]
    numbers = ", ".join(f"{int(one)} ({float(attribution.channels[sample, one]):+.3g})" for one in top)
    alone = attribution.map is not None and attribution.map[sample].numel() == 1
    place = "after the nonlinearity" if attribution.at == "post_activation" else "as the layer returns it"
    total = float(attribution.channels[sample].sum())
    return [
        f"{method[0].upper()}{method[1:]}, {place}; all contributions add up to {total:+.3g}.",
        f"Channels that contribute most: {numbers}.",
        *(["The layer has a single unit and so shows no place: a layer before the pooling does."] if alone else []),
    ]


def _pale_words(attribution: Attribution, scale: object) -> list[str]:
    """Return how a layer is shown in full that takes little of the scale of all layers."""
    if scale == "layer":
        return []
    share = attribution.reach / (attribution._question.reach or 1.0)
    if not 0 < share < _PALE:
        return []
    return [f"This layer takes {share:.2g} of the scale: scale='layer' shows it in its own range."]


def _check_words(attribution: Attribution, sample: int, check: Check | None) -> str:
    """Return how the attribution was checked by removal, or that it was not.

    Raises:
        ArgumentError: the check is none, or is of another layer.
    """
    if check is None:
        return "Not checked by removing channels: sp.evidence.channel_deletion(model, images, attribution) does."
    if not callable(getattr(check, "words", None)) or not hasattr(check, "call"):
        raise ArgumentError(
            f"deletion is {kind_of(check)}: pass what sp.evidence.channel_deletion(model, images, attribution) returns."
        )
    if (check.layer, check.call) != (attribution.layer, attribution.call):
        raise ArgumentError(
            f"deletion is of layer {check.layer!r}, run {check.call}, and the attribution of {attribution.layer!r}, "
            f"run {attribution.call}: pass that of this attribution."
        )
    return check.words(sample)


def _image_of(attribution: Attribution, sample: int) -> object:
    """Return an image of the batch.

    Raises:
        ArgumentError: the model takes no images of the batch, or several of each sample.
    """
    question = attribution._question
    reader = BatchReader.of(question.model, question.forward)
    part = reader.part(question.images)
    axes = 0 if attribution.map is None else attribution.map.ndim - 1
    batches = [part] if reader.is_image_list(part) else [one for one in tensors_of(part) if one.ndim == axes + 2]
    found = [one[sample] for one in batches if len(one) == len(attribution.score)]
    found = [image for image in found if image.shape[0] in (1, 3) or axes != _PLANAR]
    if len(found) != 1:
        kind = {1: "signals (N, C, L)", 3: "volumes (N, C, D, H, W)"}.get(axes, "images (N, 3, H, W) or (N, 1, H, W)")
        units = "" if attribution.map is None else f"has units {tuple(attribution.map.shape[1:])}"
        raise ArgumentError(
            f"The map of layer {attribution.layer!r} {units}, and the batch, {short_repr(question.images)}, holds "
            f"{len(found) or 'no'} {kind} to draw it over: pass image=."
        )
    return found[0]


def _field_of(attribution: Attribution, size: tuple[int, ...]) -> tuple[ReceptiveField | None, list[str]]:
    """Return the field of the attribution's run, and in words why it is not known."""
    question = attribution._question
    if question.forward is not None:
        return None, ["What its units see is not known, since the model is called by forward=."]
    part = BatchReader.of(question.model).part(question.images)
    if not isinstance(part, torch.Tensor):
        return None, ["What its units see is not known, since the model takes more than one tensor."]
    try:
        found = receptive_fields(
            question.model,
            part[:1],
            layers=question.model if not attribution.layer else attribution.layer,
            at=attribution.at,
            layout=attribution.layout,
        ).calls(attribution.layer)[attribution.call]
    except (SpatialProbeError, IndexError) as error:
        return None, [f"What its units see is not known: {str(error).splitlines()[0]}"]
    shape = None if attribution.map is None else tuple(attribution.map.shape[1:])
    if found.output_size != shape or found.input_size != tuple(size):
        return None, ["What its units see is not known: the image is not of the size that the model takes."]
    return found, []
