"""Rules of operators that resample: interpolation in every mode, and sampling on a grid."""

from __future__ import annotations

import torch

from spatialprobe.fields.interpolation import Resize, resize_taps
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule, rule


def _resample(operation: Operation) -> Reach:
    """Return a resampling along each spatial axis in turn, as torch's kernels compute it."""
    seen, exact = operation.reach(next(iter(operation.arguments))), True
    for resize in _list_resizes(operation):
        taps, sure = resize_taps(resize)
        seen, exact = seen.tapped(2 + resize.axis, taps, resize.outputs), exact and sure
    return seen if exact else seen.inexact()


for _axes, _names in {
    1: "upsample_nearest1d _upsample_nearest_exact1d upsample_linear1d",
    2: "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa",
    3: "upsample_nearest3d _upsample_nearest_exact3d upsample_trilinear3d",
}.items():
    for _name in _names.split():
        add_rule(f"aten::{_name}", _resample)


def _list_resizes(operation: Operation) -> list[Resize]:
    """Return the resize along each spatial axis."""
    image: torch.Tensor = next(iter(operation.arguments.values()))
    inputs, outputs = tuple(image.shape[2:]), operation.shape[2:]
    axes = len(outputs)
    layouts = {2: torch.channels_last, 3: torch.channels_last_3d}
    return [
        Resize(
            operator=operation.name,
            axes=axes,
            axis=axis,
            inputs=inputs[axis],
            outputs=outputs[axis],
            beside=_size_beside(operation.name, inputs, outputs, axis) if axes == 2 else 1,
            factor=_scale_factor(operation, axis),
            align_corners=bool(operation.arguments.get("align_corners")),
            channels=min(4, image.shape[1]),
            channels_last=axes in layouts and image.is_contiguous(memory_format=layouts[axes]),
            dtype=image.dtype,
        )
        for axis in range(axes)
    ]


def _size_beside(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...], axis: int) -> int:
    """Return the size of the other axis; antialiasing resizes the last axis first."""
    return inputs[0] if name.endswith("_aa") and axis == 1 else outputs[1 - axis]


def _scale_factor(operation: Operation, axis: int) -> float | None:
    """Return the scale factor of an axis; None if the output's size was passed instead."""
    factors = operation.arguments.get("scale_factors")
    if factors is None:
        factors = [value for name, value in operation.arguments.items() if name.startswith("scales")]
    return factors[axis] if factors else None


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "_grid_sampler_2d_cpu_fallback")
def _sample_grid(operation: Operation) -> Reach:
    """Return a bound: the grid's values decide which pixels are read, so that it may be any."""
    image, outputs = operation.reach("input"), operation.shape
    anywhere = image.reduced(range(2, len(outputs)), keepdim=True).expanded(outputs)
    return operation.with_all_of(anywhere, "grid").inexact()


@rule("affine_grid_generator")
def _place_grid(operation: Operation) -> Reach:
    """Each coordinate (N, *positions, axes) sees one row of the matrix (N, axes, axes + 1); less where it is 0."""
    rows = operation.reach("theta").reduced([-1])
    between = (1,) * (len(operation.shape) - 2)
    return rows.reshaped((rows.shape[0], *between, rows.shape[1])).expanded(operation.shape).inexact()
