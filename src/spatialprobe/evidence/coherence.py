"""The similarity of the top-activating patches of a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import check_function, make_generator
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.result import Averaged, Bools, Floats
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.samples import CountedImages, ImageOf, image_in
from spatialprobe.render.exemplar_checks import check_exemplars
from spatialprobe.render.field_words import whole_box
from spatialprobe.render.patch import cut_patch
from spatialprobe.statistics.exemplars import ExemplarsResult
from spatialprobe.text import kind_of


@dataclass(frozen=True, eq=False)
class PatchCoherence(Averaged):
    """The mean similarity of the exemplar patches of each channel: one value for each channel.

    1: the same pattern up to brightness, contrast and mean color; 0: nothing in common; -1: the inverse pattern.

    >>> import torch, spatialprobe as sp
    >>> images, conv = torch.rand(50, 1, 12, 12), torch.nn.Conv2d(1, 4, 3)
    >>> top = sp.sweep(conv, images, {"top": sp.Exemplars})[""]["top"]
    >>> coherence = sp.evidence.patch_coherence(top, images, sp.receptive_fields(conv, images)[""])
    >>> coherence.values.shape, coherence.patches, coherence.random_values.shape
    ((4,), 9, (4,))
    """

    layer: str
    patches: int  # exemplars of each channel, at most
    random: float  # the mean for random patches of the same size, in place of the exemplars
    random_values: Floats  # (n,): one for each channel, from the same number of random patches
    seed: int  # of the random patches

    def __repr__(self) -> str:
        return f"PatchCoherence({self.layer!r}: {self._format_values()} channels; random patches {self.random:.3g})"


@dataclass(frozen=True)
class _Place:
    """A unit of a channel, in a sample."""

    sample: int
    unit: tuple[int, ...]


def patch_coherence(
    exemplars: ExemplarsResult,
    dataset: CountedImages,
    field: ReceptiveField,
    *,
    seed: int = 0,
    image: ImageOf | None = None,
) -> PatchCoherence:
    """Return the mean similarity of each channel's top-activating patches, and that of random patches.

    The similarity of two patches is the correlation of their values over pixels and colors. The mean of each color in
    the patch is subtracted first, so that a common brightness or tint does not count. Where a patch extends into the
    padding, only the pixels that both patches have are compared. The similarity to a uniform patch is 0. The result is
    the mean over all pairs of a channel's patches. The random patches come from random samples, at random units of the
    same layer.

    Exemplars of any filter resemble what the filter multiplies with, trained or not: compare with an untrained network
    to see what training adds.

    Args:
        exemplars: one layer's result of the `Exemplars` reducer, with two or more samples for each channel.
        dataset: the samples that the reducer saw; `dataset[i]` is an image (C, H, W), or a tuple that begins with one.
        field: the layer's receptive field on images of this size.
        seed: of the random patches.
        image: a function `sample -> image` for data sets whose samples are neither images nor tuples that begin with
            one, nor mappings with exactly one tensor (C, H, W) that is no label.

    Channels with fewer than two exemplars are left out, and so are dead channels, whose exemplars all have the value
    zero.

    Raises:
        ArgumentError: the exemplars and the field belong to different layers, or no channel has two exemplars; or a
            sample holds values that are infinite or NaN.

    >>> import torch, spatialprobe as sp
    >>> images, conv = torch.rand(50, 1, 12, 12), torch.nn.Conv2d(1, 4, 3)
    >>> top = sp.sweep(conv, images, {"top": sp.Exemplars})[""]["top"]
    >>> coherence = sp.evidence.patch_coherence(top, images, sp.receptive_fields(conv, images)[""])
    >>> coherence.n, coherence.mean > coherence.random + 0.3
    (4, True)
    """
    check_exemplars(exemplars, dataset, field)
    check_function(image, "image", "lambda sample: sample['image']")
    if not hasattr(dataset, "__len__"):
        raise ArgumentError(
            f"dataset is {kind_of(dataset)}, which has no length, so no random samples can be drawn. Pass a data set "
            "that has __len__."
        )
    alive = _find_living_channels(exemplars)
    generator = make_generator(seed)
    own, random = [], []
    for channel in alive:
        places = _exemplar_places(exemplars, channel)
        own.append(_mean_similarity(places, channel, dataset, field, image))
        drawn = [_draw_place(len(dataset), field, generator) for _ in places]
        random.append(_mean_similarity(drawn, channel, dataset, field, image))
    return PatchCoherence(
        values=np.array(own),
        layer=field.layer,
        patches=exemplars.values.shape[1],
        random=float(np.mean(random)),
        random_values=np.array(random),
        seed=seed,
    )


def similarities(patches: Floats, known: Bools) -> Floats:
    """Return the correlation of every two patches, (K, K), of patches (K, C, *pixels) known at (K, *pixels).

    >>> stripes = np.tile([0.0, 1.0], (1, 1, 4, 2))
    >>> pair = np.concatenate([stripes, 1 - stripes])
    >>> similarities(pair, np.ones((2, 4, 4), bool)).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    count = len(patches)
    flat, mask = patches.reshape(*patches.shape[:2], -1), known.reshape(count, 1, -1)
    both = (mask[:, None] & mask[None]).astype(np.float64)  # (K, K, 1, P)
    pixels = both.sum(axis=-1).clip(1)
    one, other = (side * both for side in (flat[:, None], flat[None]))
    one = (one - one.sum(axis=-1, keepdims=True) / pixels[..., None]) * both
    other = (other - other.sum(axis=-1, keepdims=True) / pixels[..., None]) * both
    product, squares = (one * other).sum(axis=(2, 3)), [(side**2).sum(axis=(2, 3)) for side in (one, other)]
    norm = np.sqrt(squares[0] * squares[1])
    found: Floats = np.divide(product, norm, out=np.zeros_like(product), where=norm > 1e-12)
    return found


def _mean_similarity(
    places: Sequence[_Place], channel: int, dataset: CountedImages, field: ReceptiveField, image: ImageOf | None
) -> float:
    """Return the mean similarity over all pairs of the patches at these places."""
    cut = [_cut_out(dataset, place, channel, field, image) for place in places]
    extent = np.max([patch.shape[1:] for patch, _ in cut], axis=0)
    patches = np.zeros((len(cut), cut[0][0].shape[0], *extent))
    known = np.zeros((len(cut), *extent), bool)
    for index, (patch, inside) in enumerate(cut):
        corner = tuple(slice(size) for size in inside.shape)
        patches[index][(slice(None), *corner)], known[index][corner] = patch, inside
    return float(similarities(patches, known)[np.triu_indices(len(cut), 1)].mean())


def _cut_out(
    dataset: CountedImages, place: _Place, channel: int, field: ReceptiveField, image_of: ImageOf | None
) -> tuple[Floats, Bools]:
    """Return the pixels (C, *pixels) that a unit sees, and a mask of those inside the image, not in the padding."""
    image = _load_image(dataset, place.sample, field, image_of)
    box = whole_box(field, place.unit, channel)
    if box is None:
        return np.zeros((len(image), *field.size)), np.zeros(field.size, bool)
    patch, inside = cut_patch(np.moveaxis(image, 0, -1), box)
    return np.moveaxis(patch, -1, 0), inside


def _load_image(
    dataset: CountedImages, sample: int, field: ReceptiveField, image_of: ImageOf | None
) -> npt.NDArray[np.float64]:
    """Return the image (C, *pixels) of a sample, or raise an error if the field is not of such images."""
    image = image_in(dataset[sample], image_of)
    if not isinstance(image, torch.Tensor) or tuple(image.shape[1:]) != field.input_size:
        found = tuple(image.shape) if isinstance(image, torch.Tensor) else kind_of(image)
        raise ArgumentError(
            f"Sample {sample} of the data set is {found}, but the field of layer {field.layer!r} was computed for "
            f"images (C, {', '.join(map(str, field.input_size))}). Pass the field for images of the data set's size."
        )
    if not image.isfinite().all():
        raise ArgumentError(f"Sample {sample} of the data set holds values that are infinite or NaN.")
    return image.detach().cpu().double().numpy()


def _exemplar_places(exemplars: ExemplarsResult, channel: int) -> list[_Place]:
    """Return the places of a channel's exemplars."""
    rows = zip(exemplars.samples[channel].tolist(), exemplars.positions[channel].tolist(), strict=True)
    return [_Place(sample, tuple(unit)) for sample, unit in rows if sample >= 0]


def _draw_place(samples: int, field: ReceptiveField, generator: torch.Generator) -> _Place:
    """Return a random unit of a random sample."""
    sample, *unit = (
        int(torch.randint(size, (), generator=generator, device="cpu")) for size in (samples, *field.output_size)
    )
    return _Place(sample, tuple(unit))


def _find_living_channels(exemplars: ExemplarsResult) -> list[int]:
    """Return the channels with at least two exemplars that are not all zero: a dead channel prefers nothing."""
    values, samples = exemplars.values, exemplars.samples
    living = ((samples >= 0).sum(dim=1) >= 2) & (values.nan_to_num(0.0) != 0).any(dim=1)
    chosen: list[int] = living.nonzero()[:, 0].tolist()
    if not chosen:
        raise ArgumentError(
            "No channel has two exemplars with values other than zero: there is nothing to compare. Pass exemplars of "
            "more samples, or of another layer."
        )
    return chosen
