"""Which concepts the channels of layers align with, beside the masks of other images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_float, as_int, check_function
from spatialprobe.errors import ArgumentError, UnsupportedOutputError
from spatialprobe.evidence.alignment import ConceptAlignment, ConceptAlignments
from spatialprobe.evidence.concept_masks import MasksOf, ShuffledMasks, check_enough, read_masks
from spatialprobe.evidence.unit_places import place_units
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.samples import CountedImages, ImageOf, image_in
from spatialprobe.model.select import Selector, find_exact_names
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.histogram import Histogram, HistogramResult
from spatialprobe.statistics.overlap import Overlap
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.reducer import Factory, OfEachLayer
from spatialprobe.statistics.sweep import sweep
from spatialprobe.text import kind_of

_BINS = 4096  # of the histogram from which thresholds are read


def concept_alignment(
    model: nn.Module,
    data: CountedImages,
    layers: Selector = nn.Conv2d,
    *,
    concepts: Sequence[str] | None = None,
    quantile: float = 0.005,
    seed: int = 0,
    at: At = "output",
    batch_size: int = 64,
    image: ImageOf | None = None,
    masks: MasksOf | None = None,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
    progress: Shown = "auto",
) -> ConceptAlignments:
    """Return how well each channel's most active units coincide with the pixels of concepts [Bau et al. 2017].

    A unit is active if its value is among the channel's largest, a share `quantile` of all units of all images. It
    counts at one pixel, the center of its receptive field (of two middle ones the first); units whose center is in the
    padding do not count. The measure is the intersection over the union of active units and pixels of the concept, over
    all data. The control is the same with the masks of other images: what a channel owes to the mere frequency and
    place of a concept. Choosing the best of many concepts favors chance: measure the margin of a choice on other data.

    The model runs in evaluation mode and is restored afterwards: one pass for the thresholds of all layers, and one for
    the counts. Under `torchrun`, every process must call this; each counts its own share of the data, and all return
    the same result.

    Args:
        model: any module.
        data: a data set or sequence of pairs (image, masks) with a length, whose masks are read once, and its images
            twice. Masks are a tensor
            or array (H, W) of concept numbers, 0 for none, or a mapping from names to boolean masks, which may overlap.
        layers: as for `Probe`.
        concepts: the names of concepts 1 to K, or of those in the mappings that are measured; by default all that
            occur.
        quantile: the share of a channel's units that are active, at most.
        seed: of the order in which images get the masks of others.
        at: "output" or "post_activation", as for `Probe`.
        batch_size: images that run at once.
        image: a function `sample -> image`, where samples are not pairs.
        masks: a function `sample -> masks`, where samples are not pairs.
        layout: of the layers' outputs: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model; by default it is called on the images.
        progress: whether to show a progress bar for each pass; "auto": if stderr is a terminal, or in a notebook.

    Layers chosen by a pattern, type or predicate whose units have no place in the image, such as those that see all of
    it, are left out, and `left_out` says why; chosen by name they are an error.

    Raises:
        ArgumentError: an argument cannot be used: masks of another size than their image, images of several sizes, a
            concept without a pixel, fewer than two images.
        LayerNotFoundError: a selector matches nothing.
        UnsupportedOutputError: no layer has units with a place in the image, or one chosen by name has none.
        SweepError: the model or the data raised an error.

    >>> import torch, spatialprobe as sp
    >>> _ = torch.manual_seed(0)
    >>> images = torch.rand(30, 1, 16, 16)
    >>> left = torch.arange(16).expand(16, 16) < 8
    >>> data = [(one, {"bright": one[0] > 0.9, "left": left}) for one in images]
    >>> model = torch.nn.Conv2d(1, 1, 1)
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> found = sp.evidence.concept_alignment(model, data, "", quantile=0.1)[""]
    >>> found.concepts[found.best[0]], bool(found.best_margin[0] > 0.8)
    ('bright', True)
    >>> abs(round(float(found.margin[0, found.concepts.index("left")]), 1))  # every image has the same left half
    0.0
    """
    share = as_float(quantile, "quantile")
    if not 0 < share < 1:
        raise ArgumentError(f"quantile must be between 0 and 1, such as 0.005, not {quantile}.")
    as_int(seed, "seed")
    check_function(image, "image", "lambda sample: sample['image']")
    check_function(masks, "masks", "lambda sample: sample['masks']")
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or getattr(data, "ndim", None) == 0:
        raise ArgumentError(
            f"data is {kind_of(data)}, which is read several times, by position: pass a data set with a length, or a "
            "list of pairs (image, masks)."
        )
    known = read_masks(data, concepts, image, masks)
    check_enough(known)
    run = partial(
        sweep,
        model,
        _Pictures(data, image),
        at=at,
        batch_size=batch_size,
        layout=layout,
        forward=forward,
        progress=progress,
    )
    swept = run({"values": partial(Histogram, _BINS)}, layers=layers)
    exact = find_exact_names(model, layers)
    first = image_in(data[0], image)[None].to(device_of(model))
    places, left_out = place_units(called_by(model, forward), first, list(swept), exact, at, layout)
    left_out = {**dict(swept.left_out), **left_out}
    if not places:
        raise UnsupportedOutputError(f"All layers are left out. {next(iter(left_out.values()), '')}")
    thresholds = {name: find_thresholds(swept[name]["values"], share) for name in places}
    shuffled = ShuffledMasks(known, seed)

    def count(layer: str) -> dict[str, Factory]:
        """Return the reducer of a layer."""
        masks_at = partial(shuffled.at, places[layer].pixels)
        return {"overlap": partial(Overlap, thresholds[layer], torch.from_numpy(places[layer].units), masks_at)}

    counted = run(OfEachLayer(count), layers=list(places))
    measured: dict[str, Any] = {"at": at, "concepts": known.names, "n": len(known), "quantile": share, "seed": seed}
    found = {
        name: ConceptAlignment.of(
            counted[name]["overlap"], layer=name, threshold=thresholds[name].numpy(), units=len(where.units), **measured
        )
        for name, where in places.items()
    }
    return ConceptAlignments(found, left_out)


class _Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """The images of a data set, without their masks."""

    def __init__(self, data: CountedImages, image: ImageOf | None) -> None:
        self._data = data
        self._image = image

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> torch.Tensor:
        found: torch.Tensor = image_in(self._data[index], self._image)
        return found


def find_thresholds(histogram: HistogramResult, share: float) -> torch.Tensor:
    """Return the value of each channel from which at most a share of its values lies, float64 (C,).

    It is the lower edge of a bin; infinite if the last bin holds more.
    """
    above = histogram.counts.flip(1).cumsum(1).flip(1)  # values from the lower edge of each bin on
    few = above <= share * above[:, :1]
    edges = histogram.edges[:, :-1].gather(1, few.long().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(few.any(dim=1), edges, torch.inf)
