"""Rules of operators that resample: interpolation in every mode, and sampling on a grid."""

from __future__ import annotations

from fractions import Fraction

from spatialprobe.fields.reach import Reach
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule, ship
from spatialprobe.fields.taps import Taps, antialiased, interpolated, nearest


def _resampled(operation: Operation) -> Reach:
    """Each spatial axis on its own; positions as in torch's `UpSample.h`, in exact fractions."""
    seen, outputs = operation.reach(next(iter(operation.arguments))), operation.shape
    for axis, dim in enumerate(range(2, len(outputs))):
        scale = _scale(operation, axis, seen.shape[dim], outputs[dim])
        seen = seen.tapped(dim, _taps(operation, scale), outputs[dim])
    return seen


for _axes, _names in {
    1: "upsample_nearest1d _upsample_nearest_exact1d upsample_linear1d",
    2: "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa",
    3: "upsample_nearest3d _upsample_nearest_exact3d upsample_trilinear3d",
}.items():
    for _name in _names.split():
        ship(f"aten::{_name}", _resampled)


def _taps(operation: Operation, scale: Fraction) -> Taps:
    name = operation.name
    if "nearest" in name:
        return nearest(scale, centred="exact" in name)
    if name.endswith("_aa"):
        return antialiased(scale, cubic="cubic" in name)
    return interpolated(scale, cubic="cubic" in name, align_corners=bool(operation["align_corners"]))


def _scale(operation: Operation, axis: int, inputs: int, outputs: int) -> Fraction:
    """Input positions per output position."""
    if operation.arguments.get("align_corners"):
        return Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0, 1)
    factors = operation.arguments.get("scale_factors") or [
        operation[name] for name in ("scales", "scales_d", "scales_h", "scales_w") if name in operation
    ]
    if factors and factors[axis] is not None and factors[axis] > 0:
        return 1 / Fraction(factors[axis]).limit_denominator(1000)
    return Fraction(inputs, outputs)


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "_grid_sampler_2d_cpu_fallback")
def _sampled(operation: Operation) -> Reach:
    """The grid's values decide which pixels are read: any of them, for all that shapes tell."""
    image, outputs = operation.reach("input"), operation.shape
    anywhere = image.reduced(range(2, len(outputs)), keepdim=True).expanded(outputs)
    return operation.with_all_of(anywhere, "grid").inexact()
