"""Which concepts the channels of layers align with, beside the masks of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_float, as_int, check_function
from spatialprobe.errors import ArgumentError, UnsupportedOutputError
from spatialprobe.evidence.concept_masks import ConceptMasks, MasksOf, check_enough, read_masks
from spatialprobe.evidence.result import Floats
from spatialprobe.fields.receptive_fields import receptive_fields
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.html_table import format_html_table
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.samples import CountedImages, ImageOf, image_in
from spatialprobe.model.select import Selector, find_exact_names
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.histogram import Histogram, HistogramResult
from spatialprobe.statistics.overlap import Overlap
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.sweep import sweep
from spatialprobe.text import describe_left_out, format_count, format_table, kind_of

Ints = npt.NDArray[np.int64]

_BINS = 4096  # of the histogram from which thresholds are read
_SHUFFLES = 8  # readings of the masks of other images
_HEADINGS = ("channel", "best concept", "IoU", "other images", "margin", "spread")
_NUMBERS = (0, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptAlignment:
    """How well the channels of a layer align with concepts: intersections over unions, beside a control.

    >>> import torch, spatialprobe as sp
    >>> _ = torch.manual_seed(0)
    >>> masks = torch.randint(0, 3, (40, 12, 12))
    >>> images = torch.stack([masks == 1, masks == 2], dim=1).float()
    >>> model = torch.nn.Conv2d(2, 2, 1)
    >>> _ = model.weight.data.copy_(torch.eye(2)[:, :, None, None])  # channel 0 is bright where the mask is 1
    >>> data = list(zip(images, masks))
    >>> found = sp.evidence.concept_alignment(model, data, "", concepts=["one", "two"], quantile=0.4)[""]
    >>> found.best.tolist(), found.iou.round(2).tolist()
    ([0, 1], [[1.0, 0.0], [0.0, 1.0]])
    """

    layer: str
    at: At
    concepts: tuple[str, ...]  # K names
    iou: Floats  # (C, K): intersection over union of active units and pixels of the concept, over all images
    control: Floats  # (C, K): the mean of the same with masks of other images
    spread: Floats  # (C, K): its standard deviation over `shuffles` readings
    best: Ints  # (C,): the concept of the largest margin; -1 for a channel without active units
    threshold: Floats  # (C,): the value from which a unit is active
    active: Ints  # (C,): units that are active, in all images
    n: int  # images
    units: int  # of each map that lie in the image, by the centers of their fields
    quantile: float  # the share of units that may be active
    shuffles: int  # readings of the masks of other images
    seed: int  # of these

    @property
    def margin(self) -> Floats:
        """How much larger the intersection over union is than with masks of other images, (C, K)."""
        return self.iou - self.control

    @property
    def best_margin(self) -> Floats:
        """The margin of each channel's best concept, (C,); 0 for a channel without active units."""
        return np.where(self.best >= 0, self.margin[np.arange(len(self.best)), self.best], 0.0)

    def __repr__(self) -> str:
        return format_table(self._title(), [_HEADINGS, *self._rows()], _NUMBERS)

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return format_html_table(self._title(), _HEADINGS, self._rows(), flush_right=_NUMBERS)

    def _title(self) -> str:
        return (
            f"ConceptAlignment of layer {self.layer!r}, {self.at}, with {format_count(len(self.concepts), 'concept')}, "
            f"{format_count(self.n, 'image')}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (str(channel), "never active", "", "", "", "")
            if best < 0
            else (
                str(channel),
                self.concepts[best],
                *(f"{float(one[channel, best]):.3f}" for one in (self.iou, self.control, self.margin)),
                f"{float(self.spread[channel, best]):.2g}",
            )
            for channel, best in enumerate(self.best.tolist())
        ]


class ConceptAlignments(FrozenMapping[str, ConceptAlignment]):
    """The alignment of each layer, found by its name, in the order in which the layers ran.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Conv2d(2, 3, 3))
    >>> data = [(torch.rand(1, 8, 8), torch.eye(8, dtype=torch.int64)) for _ in range(4)]
    >>> found = sp.evidence.concept_alignment(model, data)
    >>> list(found), found["1"].iou.shape, dict(found.left_out)
    (['0', '1'], (3, 1), {})
    """

    def __init__(self, items: Mapping[str, ConceptAlignment], left_out: Mapping[str, str]) -> None:
        super().__init__(items)
        self.left_out = FrozenMapping(left_out)  # layers chosen by a pattern that could not be measured, and why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), dict(self.left_out))

    def __repr__(self) -> str:
        lines = [("layer", "channels", "mean margin of the best concept", "largest")]
        for name, one in self.items():
            top = int(one.best_margin.argmax())
            largest = (
                f"{one.best_margin[top]:.3f}: channel {top}, {one.concepts[one.best[top]]}"
                if one.best[top] >= 0
                else ""
            )
            lines.append((name or "(model)", str(len(one.best)), f"{one.best_margin.mean():.3f}", largest))
        table = format_table(f"ConceptAlignments of {format_count(len(self), 'layer')}", lines, (1, 2))
        return "\n".join(filter(None, [table, describe_left_out(self.left_out)]))

    def _repr_html_(self) -> str:
        """The table of each layer for a notebook."""
        return "".join(one._repr_html_() for one in self.values())


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

    The model runs in evaluation mode and is restored afterwards: one pass for the thresholds, and one for each layer,
    no further than that layer.

    Args:
        model: any module.
        data: a data set or sequence of pairs (image, masks) with a length, read three times or more. Masks are a tensor
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
    places, left_out = _find_places(model, data, image, forward, layout, at, list(swept), exact)
    left_out = {**dict(swept.left_out), **left_out}
    if not places:
        raise UnsupportedOutputError(f"All layers are left out. {next(iter(left_out.values()), '')}")
    shuffled = _Shuffled(known, seed)
    found = {}
    for name, (units, pixels) in places.items():
        threshold = find_thresholds(swept[name]["values"], share)
        reducer = partial(Overlap, threshold, torch.from_numpy(units), partial(shuffled.at, pixels))
        counts = run({"overlap": reducer}, layers=name)[name]["overlap"]
        iou = counts.iou().numpy()
        control, spread = iou[1:].mean(axis=0), iou[1:].std(axis=0)
        active = counts.active.numpy()
        found[name] = ConceptAlignment(
            layer=name,
            at=at,
            concepts=known.names,
            iou=iou[0],
            control=control,
            spread=spread,
            best=np.where(active > 0, (iou[0] - control).argmax(axis=1), -1),
            threshold=threshold.numpy(),
            active=active,
            n=len(known),
            units=len(units),
            quantile=share,
            shuffles=len(iou) - 1,
            seed=seed,
        )
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


@dataclass(frozen=True, eq=False)
class _Shuffled:
    """The masks of each image, and those of others: every image gives its masks to one other in each reading."""

    masks: ConceptMasks
    seed: int

    def at(self, pixels: Ints, samples: torch.Tensor) -> torch.Tensor:
        """Return the masks at pixels, bool (readings, samples, K, pixels), of which the first are the images' own."""
        count = len(self.masks)
        order = np.random.default_rng(self.seed).permutation(count)
        place = np.argsort(order)[samples.numpy()]
        steps = range(min(_SHUFFLES, count - 1) + 1)
        return torch.from_numpy(np.stack([self.masks.at(order[(place + step) % count], pixels) for step in steps]))


def find_thresholds(histogram: HistogramResult, share: float) -> torch.Tensor:
    """Return the value of each channel from which at most a share of its values lies, float64 (C,).

    It is the lower edge of a bin; infinite if the last bin holds more.
    """
    above = histogram.counts.flip(1).cumsum(1).flip(1)  # values from the lower edge of each bin on
    few = above <= share * above[:, :1]
    edges = histogram.edges[:, :-1].gather(1, few.long().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(few.any(dim=1), edges, torch.inf)


def _find_places(
    model: nn.Module,
    data: CountedImages,
    image: ImageOf | None,
    forward: Forward | None,
    layout: LayoutChoice,
    at: At,
    names: Sequence[str],
    exact: frozenset[str],
) -> tuple[dict[str, tuple[Ints, Ints]], dict[str, str]]:
    """Return for each layer which of its units have a place in the image, and their pixels; and why others have none.

    Raises:
        UnsupportedOutputError: a layer that was chosen by its name has none.
    """
    example = image_in(data[0], image)[None].to(device_of(model))
    fields = receptive_fields(called_by(model, forward), example, layers=list(names), at=at, layout=layout)
    places, left_out = {}, {}
    for name in names:
        units, pixels, problem = _centers(fields.calls(name)[0])
        if not problem:
            places[name] = units, pixels
        elif name in exact:
            raise UnsupportedOutputError(problem)
        else:
            left_out[name] = problem
    return places, left_out


def _centers(field: ReceptiveField) -> tuple[Ints, Ints, str]:
    """Return the units whose field is centered in the image, the pixels there, and why there are none."""
    axes, none = len(field.input_size), np.zeros(0, np.int64)
    boxes = field.boxes(clip=False).reshape(-1, 2 * axes)
    centers = (boxes[:, :axes] + boxes[:, axes:] - 1) // 2
    inside = ((centers >= 0) & (centers < np.array(field.input_size))).all(axis=1)
    inside &= (boxes[:, axes:] > boxes[:, :axes]).all(axis=1)
    pixels = np.ravel_multi_index(tuple(centers[inside].T), field.input_size) if inside.any() else none
    if len(field.output_size) != axes or len(np.unique(pixels)) < 2:
        return (
            none,
            none,
            f"The units of layer {field.layer or '(model)'!r} have no place in the image: they see all of it, or the "
            "layer has no unit axes. Choose another layer.",
        )
    return np.flatnonzero(inside), pixels.astype(np.int64), ""
