"""The effective receptive field: how much each input pixel influences a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.arguments import as_int, as_ints, check_one_of
from spatialprobe.errors import ArgumentError, ForwardError
from spatialprobe.fields.box import Box
from spatialprobe.fields.images import check_images, field_of
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.fields.unit_gradients import Floats, Statistic, sum_gradients
from spatialprobe.html_fields import format_fields_html
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import undo_block
from spatialprobe.text import format_count

_MASSES = (0.2, 0.3, 0.5, 0.99)


@dataclass(frozen=True, eq=False)
class EffectiveReceptiveField:
    """The influence of each input pixel on the units at one position of a layer, on average over images.

    As a length, pixel i extends from i to i + 1, so that its center is i + 1/2.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 1, 3, bias=False)
    >>> _ = torch.nn.init.ones_(conv.weight)
    >>> effective = sp.effective_receptive_field(conv, torch.rand(2, 1, 9, 9), "")
    >>> effective.box, effective.centroid, effective.sides[0.5], round(float(effective.map.max()), 3)
    (Box(y0=3, x0=3, y1=6, x1=6), (4.5, 4.5), 3, 0.111)
    """

    layer: str
    unit: tuple[int, ...]  # its position along each unit axis
    statistic: Statistic
    n: int  # images
    map: Floats  # (*spatial) of the whole input: shares of the influence, which sum to 1; zero outside the box
    standard_error: Floats  # (*spatial): of each share, over images; NaN for one image
    box: Box  # the pixels that the unit can see
    centroid: tuple[float, ...]  # pixels
    std: tuple[float, ...]  # pixels: the spread around the centroid along each axis
    sides: Mapping[float, int]  # mass -> pixels: the side of the square around the box's center that holds this mass
    area_ratio: Mapping[float, float]  # mass -> the share of the input's pixels inside that square

    def __repr__(self) -> str:
        spread = " x ".join(f"{value:.1f}" for value in self.std)
        return (
            f"EffectiveReceptiveField({self.layer!r}, unit {self.unit}, {self.statistic}, n={self.n}: half its mass "
            f"within {self.sides[0.5]} pixels of {' x '.join(map(str, self.box.shape))}, std {spread})"
        )

    def _repr_html_(self) -> str:
        """The field as a picture for a notebook; its numbers alone where it is not over two axes."""
        from spatialprobe.render.effective_map import effective_field_map  # a field is measured without any drawing

        if self.map.ndim == 2:
            return effective_field_map(self)._repr_html_()
        return format_fields_html(self, self.layer)


def effective_receptive_field(
    model: nn.Module,
    images: torch.Tensor,
    layer: str | nn.Module,
    *,
    unit: Literal["center"] | Sequence[int] = "center",
    channels: Literal["all"] | Sequence[int] = "all",
    statistic: Statistic = "absolute",
    probes: int | None = None,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> EffectiveReceptiveField:
    """Return how much each input pixel influences the units at one position of a layer.

    For each image and output channel the gradient of the unit with respect to the input is computed; its absolute
    value, or its square, is summed over input and output channels, and averaged over images [Luo et al. 2016]. The
    model runs in evaluation mode and is restored afterwards; its parameters get no gradients.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), on the model's device.
        layer: its name, or the module itself; of several runs the first counts.
        unit: the position, (y, x) for maps of two axes; by default the middle.
        channels: the output channels; each costs a backward pass.
        statistic: "absolute" or "squared".
        probes: estimate the squared statistic from this number of random-sign sums of the channels instead of from
            each channel [Hutchinson 1990]: unbiased, and cheaper where there are many channels.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the images.

    Raises:
        ArgumentError: the images, the unit, the channels or the statistic cannot be used; or no pixel influences the
            unit.
        NonFiniteActivationError: a gradient is infinite or NaN.
        ForwardError: the model raises an error on the images, in the forward or the backward pass.
        UnsupportedOutputError: it cannot be determined which axis of the layer's output holds the channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> blur = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False))
    >>> for conv in blur:
    ...     _ = nn.init.constant_(conv.weight, 1 / 9)
    >>> effective = sp.effective_receptive_field(blur, torch.rand(2, 1, 9, 9), "1")
    >>> effective
    EffectiveReceptiveField('1', unit (2, 2), absolute, n=2: half its mass within 3 pixels of 5 x 5, std 1.2 x 1.2)
    >>> effective.map[4, 2:7].round(3).tolist()
    [0.037, 0.074, 0.111, 0.074, 0.037]
    """
    _check_arguments(images, statistic, probes)
    model = called_by(model, forward)
    field, found = field_of(model, images, select_one(model, layer).name, layout)
    position = _resolve_position(unit, field)
    box = field.box(*position)
    if box is None:
        raise ArgumentError(
            f"Unit {position} of layer {field.layer!r} sees only padding: no pixel influences it. Pass another unit."
        )
    with undo_block() as undo:
        leave_inference_mode(undo)
        with EvaluationMode(model, gradients=True):
            sums = sum_gradients(model, images, field.layer, found, position, channels, statistic, probes)
    _check_inside(sums, box, field)
    total = float(sums.sum())
    if total == 0:
        raise ArgumentError(
            f"No pixel influences unit {position} of layer {field.layer!r} in any of "
            f"{format_count(len(images), 'image')}: all gradients are zero. After a ReLU the unit may be dead: pass "
            "more images, or the layer before it."
        )
    shares = sums * (len(images) / total)
    error = shares.std(axis=0, ddof=1) / len(images) ** 0.5 if len(images) > 1 else np.full(shares.shape[1:], np.nan)
    return _summarize(field.layer, position, statistic, shares.mean(axis=0), error, box, len(images))


def _summarize(
    layer: str, unit: tuple[int, ...], statistic: Statistic, shares: Floats, error: Floats, box: Box, n: int
) -> EffectiveReceptiveField:
    """Return the result for a map of shares (*spatial), with the numbers that describe it."""
    middles = [np.arange(size) + 0.5 for size in shares.shape]
    marginals = [shares.sum(axis=tuple(o for o in range(shares.ndim) if o != axis)) for axis in range(shares.ndim)]
    centroid = [float(marginal @ middle) for marginal, middle in zip(marginals, middles, strict=True)]
    variance = [m @ (middle - c) ** 2 for m, middle, c in zip(marginals, middles, centroid, strict=True)]
    sides = _square_sides(shares, box)
    ordered = np.sort(sides, axis=None)
    mass = np.cumsum(shares.flat[np.argsort(sides, axis=None, kind="stable")])
    needed = {
        share: int(ordered[np.searchsorted(mass, share * (1 - 1e-9)).clip(0, len(mass) - 1)]) for share in _MASSES
    }
    return EffectiveReceptiveField(
        layer=layer,
        unit=unit,
        statistic=statistic,
        n=n,
        map=shares,
        standard_error=error,
        box=box,
        centroid=tuple(centroid),
        std=tuple(float(value) ** 0.5 for value in variance),
        sides=FrozenMapping(needed),
        area_ratio=FrozenMapping({share: float((sides <= side).mean()) for share, side in needed.items()}),
    )


def _square_sides(shares: Floats, box: Box) -> npt.NDArray[np.int64]:
    """Return for each pixel the side of the smallest square around the box's center that holds it, (*spatial)."""
    distances = [
        np.abs(2 * np.arange(size) + 1 - (start + stop))  # twice the distance between the two centers
        for size, start, stop in zip(shares.shape, box.start, box.stop, strict=True)
    ]
    farthest = distances[0]
    for distance in distances[1:]:
        farthest = np.maximum(farthest[..., None], distance)
    return np.asarray(farthest + 1)


def _check_arguments(images: torch.Tensor, statistic: str, probes: int | None) -> None:
    """Raise an error unless the arguments can be used."""
    check_images(images)
    check_one_of(statistic, "statistic", Statistic)
    if probes is None:
        return
    as_int(probes, "probes", least=1)
    if statistic != "squared":
        raise ArgumentError(
            "probes= estimates the squared statistic only. Pass statistic='squared', or leave out probes= to "
            "compute the gradient of each channel."
        )


def _resolve_position(unit: Literal["center"] | Sequence[int], field: ReceptiveField) -> tuple[int, ...]:
    """Return the position of the chosen unit along each unit axis."""
    if isinstance(unit, str) and unit == "center":
        return tuple(size // 2 for size in field.output_size)
    return as_ints(unit, "unit")


def _check_inside(sums: Floats, box: Box, field: ReceptiveField) -> None:
    """Raise an error if a gradient reaches a pixel outside the box: the box would be wrong."""
    outside = sums.copy()
    outside[(slice(None), *box.slices)] = 0
    if outside.any():
        raise ForwardError(
            f"Pixels outside {box} influence layer {field.layer!r}, which its receptive field rules out. The model "
            "computes something else than when it was traced. Check whether it branches on values, or mixes the images "
            "of a batch."
        )
