"""The effective receptive field: how much each input pixel really moves a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.activations.capture import capture
from spatialprobe.activations.records import Activation
from spatialprobe.arguments import as_channels, as_int, as_ints, check_one_of
from spatialprobe.errors import ArgumentError, ForwardError, NonFiniteActivationError, SpatialProbeError
from spatialprobe.fields.box import Box
from spatialprobe.fields.gradient_sums import GradientSums, gradient_of
from spatialprobe.fields.images import check_images, check_rows, field_of
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import images_error
from spatialprobe.model.layout import Layout, LayoutChoice, channels_second
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import undo_block
from spatialprobe.tensors import real_values
from spatialprobe.text import format_count

Statistic = Literal["absolute", "squared"]
Floats = npt.NDArray[np.float64]

_MASSES = (0.2, 0.3, 0.5, 0.99)


@dataclass(frozen=True, eq=False)
class EffectiveReceptiveField:
    """How much each input pixel moves the units at one position of a layer, on average over images.

    In lengths pixel i reaches from i to i + 1, so that its middle is i + 1/2.

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
    map: Floats  # (*spatial) of the whole input: shares, linear, which sum to 1; zero outside the box
    standard_error: Floats  # (*spatial): of each share, over images; NaN for one image
    box: Box  # the pixels that the unit can see
    centroid: tuple[float, ...]  # pixels
    std: tuple[float, ...]  # pixels: the spread around the centroid along each axis
    sides: Mapping[float, int]  # mass -> pixels: the side of the square around the box's center that holds so much
    area_ratio: Mapping[float, float]  # mass -> the share of the input's pixels inside that square

    def __repr__(self) -> str:
        spread = " x ".join(f"{value:.1f}" for value in self.std)
        return (
            f"EffectiveReceptiveField({self.layer!r}, unit {self.unit}, {self.statistic}, n={self.n}: half its mass "
            f"within {self.sides[0.5]} pixels of {' x '.join(map(str, self.box.shape))}, std {spread})"
        )


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
) -> EffectiveReceptiveField:
    """How much each input pixel moves the units at one position of a layer.

    For each image and output channel the gradient of the unit with respect to the input is taken; its absolute value,
    or its square, is summed over input and output channels, and averaged over images [Luo et al. 2016]. The model runs
    in evaluation mode and is restored afterwards; its parameters get no gradients.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), on the model's device.
        layer: its name, or the module itself; of several runs the first counts.
        unit: the position, (y, x) for maps of two axes; the one in the middle if left out.
        channels: which output channels; each costs a backward pass.
        statistic: "absolute" or "squared".
        probes: estimate the squared statistic from so many random-sign sums of the channels instead of from each
            channel [Hutchinson 1990]: unbiased, and cheaper where there are many channels.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C); or "auto", as
            `receptive_fields` finds it.

    Raises:
        ArgumentError: the images, the unit, the channels or the statistic do not fit; or no pixel moves the unit.
        NonFiniteActivationError: a gradient is infinite or NaN.
        ForwardError: the model raises an error on the images, in the forward or the backward pass.
        UnsupportedOutputError: nobody can tell which axis of the layer's output holds the channels.

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
    _check(images, statistic, probes)
    field, found = field_of(model, images, select_one(model, layer).name, layout)
    position = _position(unit, field)
    box = field.box(*position)
    if box is None:
        raise ArgumentError(f"Unit {position} of layer {field.layer!r} sees only padding: no pixel can move it.")
    with undo_block() as undo:
        leave_inference_mode(undo)
        with EvaluationMode(model, gradients=True):
            sums = _gradients(model, images, field, found, position, channels, statistic, probes)  # (N, *spatial)
    _check_inside(sums, box, field)
    total = float(sums.sum())
    if total == 0:
        raise ArgumentError(
            f"No pixel moves unit {position} of layer {field.layer!r} in any of {format_count(len(images), 'image')}: "
            "all gradients are zero. Behind a ReLU that is a dead unit: give more images, or probe the layer before it."
        )
    shares = sums * (len(images) / total)
    error = shares.std(axis=0, ddof=1) / len(images) ** 0.5 if len(images) > 1 else np.full(shares.shape[1:], np.nan)
    return _summary(field.layer, position, statistic, shares.mean(axis=0), error, box, len(images))


def _gradients(
    model: nn.Module,
    images: torch.Tensor,
    field: ReceptiveField,
    layout: Layout,
    unit: tuple[int, ...],
    channels: Literal["all"] | Sequence[int],
    statistic: Statistic,
    probes: int | None,
) -> Floats:
    """Return the statistic of each image, (N, *spatial), summed over input and output channels, up to a factor.

    Raises:
        NonFiniteActivationError: a gradient is infinite or NaN.
    """
    inputs = images.detach().clone().requires_grad_()
    record = _captured(model, inputs, field.layer)
    units = real_values(field.layer, record.tensor)  # (N, channels, *units)
    check_rows(field.layer, units, len(images))
    units = channels_second(units, layout)
    for position in unit:
        units = units[:, :, position]
    chosen = _chosen(units, channels, field.layer)
    sums = GradientSums((len(images), *images.shape[2:]), squared=statistic == "squared")
    directions = list(_directions(chosen, probes))
    for one in directions:
        gradient = _gradient(model, one, inputs)
        if not sums.add(gradient):
            raise NonFiniteActivationError(_describe_nonfinite(field.layer, unit, chosen, gradient, inputs.dtype))
    return sums.values.numpy()


def _captured(model: nn.Module, inputs: torch.Tensor, layer: str) -> Activation:
    """Return the record of the layer's first run, in the graph of the inputs.

    Raises:
        ForwardError: the model raises an error on them.
    """
    try:
        return capture(model, inputs, layers=layer, keep_graph=True, stop_early=True).calls(layer)[0]
    except SpatialProbeError:
        raise
    except Exception as error:
        raise images_error(model, inputs, error) from error


def _gradient(model: nn.Module, one: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a number with respect to the inputs, zeros where it does not depend on them.

    Raises:
        ForwardError: the model's backward pass raises an error.
    """

    def times(factor: float) -> torch.Tensor:
        try:
            seed = torch.full_like(one, factor)
            (found,) = torch.autograd.grad(one, inputs, seed, retain_graph=True, materialize_grads=True)
        except Exception as error:
            raise images_error(model, inputs, error) from error
        return found

    return gradient_of(times, inputs.dtype)


def _describe_nonfinite(
    layer: str, unit: tuple[int, ...], values: torch.Tensor, gradient: torch.Tensor, dtype: torch.dtype
) -> str:
    """Say which gradients are infinite or NaN, whether the unit itself is, and what to do."""
    image = int((~gradient.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    nans, infinite = int(gradient[image].isnan().sum()), int(gradient[image].isinf().sum())
    itself = "finite" if values[image].isfinite().all() else "infinite or NaN itself"
    wider = torch.float64 if dtype is torch.float32 else torch.float32
    return (
        f"The gradient of unit {unit} of layer {layer!r} has {nans} NaN and {infinite} infinite values in image "
        f"{image}, where the unit is {itself}. A root, a logarithm or a division at zero has such a gradient, and "
        f"large ones overflow in {str(dtype)[6:]}: look at the layers before it, or run model and images in "
        f"{str(wider)[6:]}."
    )


def _directions(units: torch.Tensor, probes: int | None) -> Iterator[torch.Tensor]:
    """Each channel's sum over images, or random-sign sums of the channels; images do not mix in what follows."""
    if probes is None:
        yield from units.sum(dim=0)
        return
    generator = torch.Generator().manual_seed(0)
    for _ in range(probes):
        signs = torch.randint(0, 2, units.shape, generator=generator, device="cpu") * 2 - 1
        yield (units * signs.to(units)).sum()


def _summary(
    layer: str, unit: tuple[int, ...], statistic: Statistic, shares: Floats, error: Floats, box: Box, n: int
) -> EffectiveReceptiveField:
    """The numbers that describe a map of shares (*spatial)."""
    middles = [np.arange(size) + 0.5 for size in shares.shape]
    marginals = [shares.sum(axis=tuple(o for o in range(shares.ndim) if o != axis)) for axis in range(shares.ndim)]
    centroid = [float(marginal @ middle) for marginal, middle in zip(marginals, middles, strict=True)]
    variance = [m @ (middle - c) ** 2 for m, middle, c in zip(marginals, middles, centroid, strict=True)]
    sides = _sides(shares, box)
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


def _sides(shares: Floats, box: Box) -> npt.NDArray[np.int64]:
    """For each pixel the side of the smallest square around the box's center that holds all of it, (*spatial)."""
    distances = [
        np.abs(2 * np.arange(size) + 1 - (start + stop))  # twice the distance of the pixel's middle from the center
        for size, start, stop in zip(shares.shape, box.start, box.stop, strict=True)
    ]
    farthest = distances[0]
    for distance in distances[1:]:
        farthest = np.maximum(farthest[..., None], distance)
    return np.asarray(farthest + 1)


def _check(images: torch.Tensor, statistic: str, probes: int | None) -> None:
    check_images(images)
    check_one_of(statistic, "statistic", Statistic)
    if probes is None:
        return
    as_int(probes, "probes", least=1)
    if statistic != "squared":
        raise ArgumentError(
            "probes= estimates the squared statistic only: give statistic='squared', or leave probes out to take each "
            "channel by itself."
        )


def _position(unit: Literal["center"] | Sequence[int], field: ReceptiveField) -> tuple[int, ...]:
    """The unit that is meant, by its position along each unit axis."""
    if isinstance(unit, str) and unit == "center":
        return tuple(size // 2 for size in field.output_size)
    return as_ints(unit, "unit")


def _chosen(units: torch.Tensor, channels: Literal["all"] | Sequence[int], layer: str) -> torch.Tensor:
    """The channels of (N, channels) that are meant."""
    if isinstance(channels, str) and channels == "all":
        return units
    return units[:, as_channels(channels, units.shape[1], f"Layer {layer!r}")]


def _check_inside(sums: Floats, box: Box, field: ReceptiveField) -> None:
    """That no gradient reaches a pixel outside the box: that would mean that the box is wrong."""
    outside = sums.copy()
    outside[(slice(None), *box.slices)] = 0
    if outside.any():
        raise ForwardError(
            f"Pixels outside {box} move layer {field.layer!r}, which its receptive field rules out. The model computes "
            "something else than when it was traced: does it branch on values, or mix the images of a batch?"
        )
