"""A test of whether a layer computes the same at every place: if the image shifts, its output must shift with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spatialprobe.arguments import as_ints, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.layer import compute_outputs
from spatialprobe.evidence.result import Averaged, Bools
from spatialprobe.fields.images import check_images, field_of
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import compute_units_apart

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EquivarianceError(Averaged):
    """The difference of a layer's output from one that shifts along with the image: a relative error for each image.

    >>> import torch, spatialprobe as sp
    >>> error = sp.evidence.equivariance_error(torch.nn.Conv2d(1, 2, 3), torch.rand(4, 1, 16, 16), "", shift=(1, 2))
    >>> error.n, error.mean < 1e-6, error.units, error.whole
    (4, True, 312, True)
    """

    layer: str
    shift: tuple[int, ...]  # (dy, dx) pixels, down and to the right
    units: int  # units compared in each image, over all channels
    whole: bool  # whether the shift is a whole number of units

    def __repr__(self) -> str:
        return f"EquivarianceError({self.layer!r}, shift {self.shift}: {self._format_values()}, {self.units} units)"


def equivariance_error(
    model: nn.Module,
    images: torch.Tensor,
    layer: str | nn.Module,
    shift: tuple[int, ...],
    *,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> EquivarianceError:
    """Return the relative error between shifted outputs and outputs of the shifted image, far from all borders.

    Each image is shifted and wraps around at its borders. The layer's output for the original image is shifted by the
    same distance in units; between units, it is linearly interpolated. Only units are compared whose field, padding
    included, lies inside both the image and the part of the shifted image that did not wrap around: any difference
    there is due to the layer. An error is the norm of the differences divided by the norm of the shifted outputs. A
    layer that applies the same detector everywhere has an error of 0 at multiples of its stride; subsampling breaks
    this in between [Zhang 2019].

    In a layer whose units have no positions, such as a fully connected one, each unit is compared with the unit of the
    layer that is nearest to it over all images, itself or another: the error is a lower bound.

    The model runs in evaluation mode and is restored afterwards.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), floating point. Images that activate no compared unit, and images that the shift does
            not change, such as plain gray, are left out of `values`.
        layer: its name, or the module itself; of several runs the first counts.
        shift: pixels along each axis, (dy, dx); negative is up and to the left.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the images.

    Raises:
        ArgumentError: the images cannot be used or do not change, the shift is zero or too large, or no unit is far
            from all borders.
        LayerNotFoundError: no such layer; the message names the nearest.
        UnsupportedOutputError: it cannot be determined which axis of the layer's output holds the channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    >>> images = torch.rand(4, 3, 32, 32)
    >>> sp.evidence.equivariance_error(model, images, "0", shift=(2, 4)).mean < 1e-6
    True
    >>> sp.evidence.equivariance_error(model, images, "0", shift=(1, 0)).mean > 0.1
    True
    """
    check_images(images)
    model = called_by(model, forward)
    name = select_one(model, layer).name
    moved = _check_shift(shift, images)
    field, found = field_of(model, images, name, layout)
    shifted_images = images.roll(moved, dims=tuple(range(2, images.ndim)))
    images, shifted_images = _select_changed(images, shifted_images)
    if not field.output_size:
        with EvaluationMode(model) as mode:
            before, after = (
                _flatten(compute_outputs(mode, some, name, layout=found)) for some in (images, shifted_images)
            )
        return _make_result(name, moved, True, before[:, _find_nearest(before, after)], after)
    steps = _steps(field, moved)
    _find_interior(field, moved, steps)  # before the model runs, since there may be none
    with EvaluationMode(model) as mode, compute_units_apart():
        before, after = (compute_outputs(mode, some, name, layout=found).double() for some in (images, shifted_images))
    whole = all(step == floor(step) for step in steps)
    return _make_result(name, moved, whole, *compare_shifted(field, moved, before, after))


def compare_shifted(
    field: ReceptiveField, shift: tuple[int, ...], before: torch.Tensor, after: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the units far from all borders (N, units), as a shift makes them expected, and as they were found.

    Args:
        field: of the layer.
        shift: pixels along each axis.
        before: the layer's outputs (N, C, *units) for the images.
        after: those for the shifted images.

    Raises:
        ArgumentError: the units are on no grid along the image's axes, or none is far from all borders.
    """
    steps = _steps(field, shift)
    chosen = torch.from_numpy(_find_interior(field, shift, steps)).to(after.device)
    for axis, step in enumerate(steps, start=2):
        before = _shift_units(before, step, axis)
    return before[..., chosen].flatten(1), after[..., chosen].flatten(1)


def _steps(field: ReceptiveField, shift: tuple[int, ...]) -> list[float]:
    """Return a shift in units of a layer, along each axis."""
    return [along / one for along, one in zip(shift, _unit_strides(field), strict=True)]


def _select_changed(images: torch.Tensor, shifted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images that the shift changes, before and after it."""
    differ = (images != shifted).flatten(1).any(dim=1)
    if not differ.any():
        raise ArgumentError(
            "The shift does not change any of the images: are they uniform? Pass images with a pattern, or another "
            "shift."
        )
    return images[differ], shifted[differ]


def _make_result(
    layer: str, shift: tuple[int, ...], whole: bool, expected: torch.Tensor, found: torch.Tensor
) -> EquivarianceError:
    """Return the result, from the shifted outputs and the outputs of the shifted images, (N, units)."""
    size = torch.linalg.vector_norm(expected, dim=1)
    active = size > 0
    if not active.any():
        raise ArgumentError(
            f"Layer {layer!r} is zero at every compared unit: there is nothing to measure. Is the layer dead? Pass "
            "other images, or another layer."
        )
    errors = torch.linalg.vector_norm(found - expected, dim=1)[active] / size[active]
    return EquivarianceError(errors.cpu().numpy(), layer, shift, expected.shape[1], whole)


def _check_shift(shift: tuple[int, ...], images: torch.Tensor) -> tuple[int, ...]:
    """Return a shift in whole pixels, or raise an error if these images cannot be shifted by it."""
    sizes = tuple(images.shape[2:])
    moved = as_ints(shift, "shift")
    if len(moved) != len(sizes):
        raise ArgumentError(
            f"shift must be whole pixels along each spatial axis of images {tuple(images.shape)}, (N, C, *spatial), "
            f"not {short_repr(moved)}."
        )
    if not any(moved):
        raise ArgumentError(f"A shift of {moved} moves nothing: there is nothing to measure. Pass a nonzero shift.")
    if any(abs(along) >= size for along, size in zip(moved, sizes, strict=True)):
        raise ArgumentError(
            f"A shift of {moved} leaves nothing of images of {' x '.join(map(str, sizes))}. Pass a smaller shift."
        )
    return moved


def _unit_strides(field: ReceptiveField) -> Sequence[int | float]:
    """Return the pixels from unit to unit along each axis, of a layer whose axes are those of the image."""
    if len(field.output_size) != len(field.input_size) or any(stride <= 0 for stride in field.stride):
        raise ArgumentError(
            f"The units of layer {field.layer!r}, {' x '.join(map(str, field.output_size))}, do not lie on a grid "
            "along the image's axes: a shift of the image has no counterpart there. Choose another layer."
        )
    return field.stride


def _find_interior(field: ReceptiveField, shift: tuple[int, ...], steps: Sequence[float]) -> Bools:
    """Return a mask (*units) of those whose field, and that of every unit they are compared with, touches no border."""
    kept = []
    for axis, (moved, step) in enumerate(zip(shift, steps, strict=True)):
        lo, hi = _field_bounds(field, axis)
        size = field.input_size[axis]
        in_image = (lo >= 0) & (hi <= size)
        in_shifted = (lo >= max(0, moved)) & (hi <= size + min(0, moved))
        counterparts = {floor(step), floor(step) + (step != floor(step))}
        kept.append(in_shifted & np.all([_shift_mask(in_image, along) for along in counterparts], axis=0))
    interior = np.ix_(*kept)
    found = np.zeros(field.output_size, bool)
    found[interior] = True
    if not found.any():
        raise ArgumentError(
            f"Layer {field.layer!r} has no interior units at a shift of {shift}: fields of "
            f"{' x '.join(map(str, field.size))} pixels, and the same shifted, do not fit into images of "
            f"{' x '.join(map(str, field.input_size))}. Pass a smaller shift, larger images, or an earlier layer."
        )
    return found


def _field_bounds(field: ReceptiveField, axis: int) -> tuple[_Ints, _Ints]:
    """Return the first pixel of each unit along one axis, and the first beyond it, padding included."""
    axes, middle = len(field.input_size), [size // 2 for size in field.output_size]
    pairs = []
    for at in range(field.output_size[axis]):
        box = field.box(*middle[:axis], at, *middle[axis + 1 :], clip=False)
        pairs.append((-1, -1) if box is None else (box[axis], box[axes + axis]))
    bounds = np.array(pairs)
    clipped = field.boxes()
    aligned = np.expand_dims(bounds[:, 0].clip(0), tuple(other for other in range(axes) if other != axis))
    if (clipped[..., axis] != aligned)[clipped[..., axes + axis] > 0].any():
        raise ArgumentError(
            f"The fields of layer {field.layer!r} along axis {axis} depend on more than the position along that axis: "
            "a shift of the image has no counterpart there. Choose another layer."
        )
    return bounds[:, 0], bounds[:, 1]


def _shift_mask(kept: Bools, along: int) -> Bools:
    """Return a mask moved `along` places on: whether the unit so many before each is kept."""
    moved = np.zeros_like(kept)
    source = np.arange(len(kept)) - along
    inside = (source >= 0) & (source < len(kept))
    moved[inside] = kept[source[inside]]
    return moved


def _shift_units(outputs: torch.Tensor, step: float, axis: int) -> torch.Tensor:
    """Return the units moved by a step along an axis, linearly interpolated between whole ones."""
    whole, part = floor(step), step - floor(step)
    moved = outputs.roll(whole, axis)
    return moved if part == 0 else (1 - part) * moved + part * outputs.roll(whole + 1, axis)


def _flatten(outputs: torch.Tensor) -> torch.Tensor:
    """Return outputs as float64 (N, units)."""
    return outputs.double().flatten(1)


def _find_nearest(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return for each unit of `after` (N, U) the unit of `before` that is nearest over the images."""
    return torch.cdist(after.T, before.T).argmin(dim=1)
