"""Rules of operators that slide a window: convolutions, poolings, unfold and fold."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import numpy as np

from spatialprobe.fields.reach import Reach, joined, union
from spatialprobe.fields.rules.fixed_kernels import convolve_fixed
from spatialprobe.fields.rules.operation import Operation, per_axis
from spatialprobe.fields.rules.table import add_rule, rule
from spatialprobe.fields.taps import NONE, Ints, adaptive, transposed_window, window


@rule("convolution", "_convolution", "convolution_overrideable")
def _convolve(operation: Operation) -> Reach:
    """Return a convolution [Dumoulin and Visin 2016]; each output channel sees all input channels of its group."""
    weight, outputs = operation["weight"], operation.shape
    axes = len(outputs) - 2
    slide = transposed_window if operation["transposed"] else window
    geometry = [per_axis(operation[name], axes) for name in ("stride", "padding", "dilation")]
    fixed = None if operation["transposed"] else convolve_fixed(operation, geometry)
    if fixed is not None:
        return union([fixed, *_kernel_reaches(operation, axes)], outputs)
    seen = operation.reach("input").regrouped(1, operation["groups"], outputs[1])
    for axis, (stride, padding, dilation) in enumerate(zip(*geometry, strict=True)):
        kernel = weight.shape[2 + axis]
        if kernel > 1 or stride > 1 or padding:
            seen = seen.tapped(2 + axis, slide(kernel, stride, padding, dilation), outputs[2 + axis])
    return union([seen, *_kernel_reaches(operation, axes)], outputs)


def _kernel_reaches(operation: Operation, axes: int) -> list[Reach]:
    """Return what each output channel sees through its kernel and bias, if they are not constants.

    This is all of the kernel, although at a border its taps in the padding are not used, and of a transposed kernel
    only some are used.
    """
    weight, groups = operation.reach("weight"), operation["groups"]
    channels = operation.shape[1]
    if operation["transposed"]:  # (C, channels / groups, *kernel)
        split = weight.reshaped((groups, weight.shape[0] // groups, *weight.shape[1:]))
        weight = split.reduced([1, *range(3, 3 + axes)]).reshaped((channels,))
    else:
        weight = weight.reduced(range(1, 2 + axes))
    if operation["transposed"] or any(operation["padding"]):
        weight = weight.inexact()
    bias = [operation.reach("bias")] if "bias" in operation else []
    return [one.reshaped((channels, *(1,) * axes)) for one in (weight, *bias)]


@rule("conv_tbc")
def _convolve_steps(operation: Operation) -> Reach:
    """A convolution over the steps of (steps, N, channels)."""
    kernel = operation["weight"].shape[0]
    seen = operation.reach("self").regrouped(2, 1, operation.shape[2])
    seen = seen.tapped(0, window(kernel, 1, operation["pad"], 1), operation.shape[0])
    return operation.with_all_of(seen, "weight", "bias").inexact() if _sees(operation, "weight", "bias") else seen


def _sees(operation: Operation, *names: str) -> bool:
    """Return whether one of these arguments is no constant."""
    return any(not one.is_constant for one in operation.reaches(*names))


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d_with_indices", "mkldnn_max_pool2d")
@rule("quantized_max_pool1d", "quantized_max_pool2d", "quantized_max_pool3d")
def _pool(operation: Operation) -> list[Reach]:
    """Return a pooling of each channel; pixels beyond the border do not count."""
    kernel_size, outputs = operation["kernel_size"], operation.shape
    axes = int(operation.name[operation.name.index("pool") + 4])
    kernels = per_axis(kernel_size, axes)
    strides = per_axis(operation["stride"], axes, kernels)
    paddings = per_axis(operation["padding"], axes)
    dilations = per_axis(operation.arguments.get("dilation"), axes)
    seen = operation.reach(next(iter(operation.arguments)))
    first = len(outputs) - axes
    for axis, geometry in enumerate(zip(kernels, strides, paddings, dilations, strict=True)):
        seen = seen.tapped(first + axis, window(*geometry), outputs[first + axis])
    return _add_indices(operation, seen)


add_rule("quantized::max_pool1d", _pool)
add_rule("quantized::max_pool2d", _pool)


@rule(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"
)
@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _pool_adaptively(operation: Operation) -> list[Reach]:
    seen, outputs = operation.reach("self"), operation.shape
    axes = len(operation["output_size"])
    for dim in range(len(outputs) - axes, len(outputs)):
        seen = seen.tapped(dim, adaptive(seen.shape[dim], outputs[dim]), outputs[dim])
    return _add_indices(operation, seen)


def _add_indices(operation: Operation, seen: Reach) -> list[Reach]:
    """Return a result and bounds for the indices of maxima, which do not depend on a window of one pixel."""
    return [seen, *(seen.inexact() for _ in operation.results[1:])]


@rule("fractional_max_pool2d", "fractional_max_pool3d")
def _pool_fractionally(operation: Operation) -> Reach:
    """Return a pooling with random windows: an upper bound over all possible draws [Graham 2014]."""
    seen, outputs = operation.reach("self"), operation.shape
    axes = len(operation["output_size"])
    for dim, kernel in zip(
        range(len(outputs) - axes, len(outputs)), per_axis(operation["kernel_size"], axes), strict=True
    ):
        seen = seen.gathered(dim, _fractional_positions(seen.shape[dim], outputs[dim], kernel))
    return operation.with_all_of(seen, "random_samples").inexact()


@rule("max_unpool2d", "max_unpool3d")
def _unpool(operation: Operation) -> Reach:
    """Return a bound: a value goes where its maximum was, which may be anywhere in the channel."""
    seen, outputs = union(operation.reaches(), operation["self"].shape), operation.shape
    axes = len(operation["output_size"])
    return seen.reduced(range(len(outputs) - axes, len(outputs)), keepdim=True).expanded(outputs).inexact()


@rule("unfold", "unfold_copy")
def _unfold(operation: Operation) -> Reach:
    """Return windows of a dimension, along a new last dimension."""
    seen, size = operation.reach("self"), operation["size"]
    if not seen.shape:
        return seen.reshaped(operation.shape)
    dim = operation["dimension"] % len(seen.shape)
    windows = seen.gridded(dim, 0, (operation["step"], 1), (operation.shape[dim], size))
    return windows.permuted([*range(dim + 1), *range(dim + 2, len(operation.shape)), dim + 1])


@rule("unfold_backward")
def _add_windows(operation: Operation) -> Reach:
    """Return windows (..., windows, ..., taps) added up where `unfold` took them from, as `istft` does."""
    seen, sizes, step = operation.reach("grad_in"), operation["input_sizes"], operation["step"]
    dim, taps = operation["dim"] % max(1, len(sizes)), seen.shape[-1]
    if not seen.varies(len(sizes)):
        whole = seen.reduced([-1])
        return whole.tapped(dim, transposed_window(taps, step, 0, 1), sizes[dim])
    parts = [
        seen.selected(len(sizes), tap).tapped(dim, transposed_window(1, step, -tap, 1), sizes[dim])
        for tap in range(taps)
    ]
    return union(parts, operation.shape)


@rule("im2col")
def _unfold_to_columns(operation: Operation) -> Reach:
    """Return (N, C * kernel, windows) for (N, C, H, W), as `F.unfold` does."""
    seen = _add_batch(operation.reach("self"), 4)
    kernels, dilations, paddings, strides = _column_geometry(operation)
    counts = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, dilation, padding, stride in zip(
            seen.shape[2:], kernels, dilations, paddings, strides, strict=True
        )
    ]
    for axis in range(2):
        shifts = [
            seen.tapped(2 + axis, window(1, strides[axis], paddings[axis] - tap * dilations[axis]), counts[axis])
            for tap in range(kernels[axis])
        ]
        seen = _stack(shifts)
    return seen.permuted([0, 1, 4, 5, 2, 3]).reshaped(operation.shape)


@rule("col2im")
def _fold_columns(operation: Operation) -> Reach:
    """Return (N, C, H, W) for (N, C * kernel, windows), with overlaps added up, as `F.fold` does."""
    kernels, dilations, paddings, strides = _column_geometry(operation)
    sizes = operation["output_size"]
    counts = [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, dilation, padding, stride in zip(sizes, kernels, dilations, paddings, strides, strict=True)
    ]
    columns = _add_batch(operation.reach("self"), 3)
    channels = columns.shape[1] // (kernels[0] * kernels[1])
    seen = columns.reshaped((columns.shape[0], channels, *kernels, *counts))
    for axis in (1, 0):  # (N, C, k0, k1, w0, w1) to (N, C, k0, w0, W) to (N, C, H, W)
        parts = []
        for tap in range(kernels[axis]):
            taps = transposed_window(1, strides[axis], paddings[axis] - tap * dilations[axis], 1)
            parts.append(seen.selected(2 + axis, tap).tapped(2 + 2 * axis, taps, sizes[axis]))
        seen = union(parts, parts[0].shape)
    return seen.reshaped(operation.shape)


def _column_geometry(operation: Operation) -> list[list[int]]:
    return [per_axis(operation[name], 2) for name in ("kernel_size", "dilation", "padding", "stride")]


def _add_batch(seen: Reach, dimensions: int) -> Reach:
    """Return a reach with a batch dimension."""
    return seen if len(seen.shape) == dimensions else seen.reshaped((1, *seen.shape))


def _stack(parts: Sequence[Reach]) -> Reach:
    """Return parts stacked along a new last dimension."""
    return joined([part.reshaped((*part.shape, 1)) for part in parts], len(parts[0].shape))


def _fractional_positions(inputs: int, outputs: int, kernel: int) -> Ints:
    """Return all positions that a fractional pooling may read for each output, (outputs, k)."""
    step = (inputs - kernel) / max(1, outputs - 1)
    ranges = [range(max(0, floor(i * step) - 1), min(inputs, ceil(i * step) + 1 + kernel)) for i in range(outputs)]
    table = np.full((outputs, max(map(len, ranges))), NONE)
    for row, positions in zip(table, ranges, strict=True):
        row[: len(positions)] = positions
    return table
