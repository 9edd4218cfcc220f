"""Rules of operators that move elements by position alone: views, permutations, slices, concatenations, paddings."""

from __future__ import annotations

from math import prod

import numpy as np

from spatialprobe.fields.reach import Reach, constant, joined
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule, rule


@rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy", "flatten", "unflatten", "view_as"
)
@rule("unsqueeze", "squeeze", "_squeeze_copy", "unsqueeze_copy", "squeeze_copy")
def _reshape(operation: Operation) -> Reach:
    seen = operation.reach("self")
    if prod(seen.shape) != prod(operation.shape):  # `view` in a dtype of another size
        return seen.everything(operation.shape).inexact()
    return seen.reshaped(operation.shape)


@rule("permute", "permute_copy")
def _permute(operation: Operation) -> Reach:
    return operation.reach("self").permuted(operation["dims"])


@rule("transpose", "transpose_copy", "swapaxes", "swapdims")
def _transpose(operation: Operation) -> Reach:
    seen = operation.reach("self")
    order = list(range(len(seen.shape)))
    first, second = operation["dim0"], operation["dim1"]
    if order:
        order[first], order[second] = order[second], order[first]
    return seen.permuted(order)


@rule("t", "numpy_T", "t_copy", "mT", "adjoint")
def _reverse_dims(operation: Operation) -> Reach:
    seen = operation.reach("self")
    return seen.permuted(range(len(seen.shape))[::-1])


@rule("expand", "expand_copy", "expand_as", "broadcast_to")
def _expand(operation: Operation) -> Reach:
    return operation.reach("self").expanded(operation.shape)


@rule("slice", "slice_copy", "narrow")
def _slice(operation: Operation) -> Reach:
    seen, dim = operation.reach("self"), operation["dim"]
    dim %= len(seen.shape)
    start, _, step = slice(operation["start"], operation["end"], operation["step"]).indices(seen.shape[dim])
    return seen.sliced(dim, start, step, operation.shape[dim])


@rule("select", "select_copy")
def _select(operation: Operation) -> Reach:
    seen = operation.reach("self")
    dim = operation["dim"] % len(seen.shape)
    return seen.selected(dim, operation["index"] % seen.shape[dim])


@rule("split", "split_with_sizes", "chunk", "split_copy", "split_with_sizes_copy", "unsafe_split", "unsafe_chunk")
@rule("unsafe_split_with_sizes", "tensor_split")
def _split(operation: Operation) -> list[Reach]:
    seen = operation.reach("self")
    dim = operation["dim"] % len(seen.shape)
    sizes = [result.shape[dim] for result in operation.results]
    return [seen.sliced(dim, sum(sizes[:part]), 1, size) for part, size in enumerate(sizes)]


@rule("unbind", "unbind_copy")
def _unbind(operation: Operation) -> list[Reach]:
    seen = operation.reach("self")
    dim = operation["dim"] % len(seen.shape)
    return [seen.selected(dim, position) for position in range(seen.shape[dim])]


@rule("cat", "concat", "concatenate")
def _concatenate(operation: Operation) -> Reach:
    parts = [part for part in operation.reaches("tensors") if part.shape != (0,)]  # torch allows such empty ones
    return joined(parts, operation["dim"] % len(operation.shape)) if parts else operation.reaches("tensors")[0]


def _concatenate_quantized(operation: Operation) -> Reach:
    return joined(operation.reaches("qx"), operation["dim"] % len(operation.shape))


for _name in ("cat", "cat_relu", "cat_out", "cat_relu_out"):
    add_rule(f"quantized::{_name}", _concatenate_quantized)


@rule("movedim", "moveaxis")
def _move_dims(operation: Operation) -> Reach:
    seen = operation.reach("self")
    sources, targets = ([d] if isinstance(d, int) else d for d in (operation["source"], operation["destination"]))
    moved = {
        target % len(seen.shape): source % len(seen.shape) for source, target in zip(sources, targets, strict=True)
    }
    others = iter(dim for dim in range(len(seen.shape)) if dim not in moved.values())
    return seen.permuted([moved[dim] if dim in moved else next(others) for dim in range(len(seen.shape))])


@rule("view_as_complex", "view_as_real")
def _view_complex(operation: Operation) -> Reach:
    """Return a tensor with a last dimension of real and imaginary parts added or removed."""
    seen = operation.reach("self")
    if operation.name.endswith("complex"):
        return seen.reduced([-1])
    return seen.reshaped((*seen.shape, 1)).expanded(operation.shape)


@rule("stack")
def _stack(operation: Operation) -> Reach:
    dim = operation["dim"] % len(operation.shape)
    parts = operation.reaches("tensors")
    return joined([part.reshaped((*part.shape[:dim], 1, *part.shape[dim:])) for part in parts], dim)


@rule("flip")
def _flip(operation: Operation) -> Reach:
    seen = operation.reach("self")
    for dim in operation["dims"]:
        size = seen.shape[dim]
        seen = seen.sliced(dim % len(seen.shape), size - 1, -1, size)
    return seen


@rule("rot90")
def _rotate(operation: Operation) -> Reach:
    """Quarter turns in the plane of two dimensions."""
    seen, turns = operation.reach("self"), operation["k"] % 4
    first, second = (dim % len(seen.shape) for dim in operation["dims"])
    for dim in (second,) if turns == 1 else (first, second) if turns == 2 else (first,) if turns == 3 else ():
        seen = seen.sliced(dim, seen.shape[dim] - 1, -1, seen.shape[dim])
    order = list(range(len(seen.shape)))
    if turns % 2:
        order[first], order[second] = second, first
    return seen.permuted(order)


@rule("roll")
def _roll(operation: Operation) -> Reach:
    """Return a rolled tensor; without borders nothing wraps around, so that rolling only shifts."""
    seen, shifts, dims = operation.reach("self"), operation["shifts"], operation["dims"]
    shape = seen.shape
    if not dims:
        seen, dims = seen.reshaped((prod(shape),)), [0]
    for shift, dim in zip(shifts, dims, strict=True):
        size = seen.shape[dim]
        seen = seen.rearranged(dim % len(seen.shape), (np.arange(size) - shift) % size, -shift)
    return seen.reshaped(shape)


@rule("repeat", "tile")
def _repeat(operation: Operation) -> Reach:
    """Return concatenated copies; without borders the first would have no end."""
    seen, outputs = operation.reach("self"), operation.shape
    seen = seen.reshaped((1,) * (len(outputs) - len(seen.shape)) + seen.shape)
    for dim, size in enumerate(outputs):
        if size != seen.shape[dim]:
            seen = seen.rearranged(dim, np.arange(size) % seen.shape[dim], 0)
    return seen


@rule("diagonal", "diagonal_copy")
def _take_diagonal(operation: Operation) -> Reach:
    seen = operation.reach("self")
    if seen.is_constant:
        return constant(operation.shape)
    ahead = (
        [operation["dim1"] + 2, operation["dim2"] + 2]
        if operation["dim1"] >= 0
        else [operation["dim1"], operation["dim2"]]
    )
    return seen.from_dense(np.diagonal(seen.dense(), operation["offset"], *ahead))


@rule("constant_pad_nd", "pad")
def _pad(operation: Operation) -> Reach:
    """Return a tensor padded with constants, which see nothing."""
    seen, outputs = operation.reach("self"), operation.shape
    for number, before in enumerate(operation["pad"][::2]):
        dim = len(outputs) - 1 - number
        if outputs[dim] != seen.shape[dim] or before:
            seen = seen.padded(dim, before, outputs[dim])
    return seen


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _pad_with_border(operation: Operation) -> Reach:
    """Return a tensor padded with values at its border; without borders there would be nothing to pad."""
    seen, outputs, padding = operation.reach("self"), operation.shape, operation["padding"]
    for number, before in enumerate(padding[::2]):
        dim = len(outputs) - 1 - number
        size = seen.shape[dim]
        index = np.arange(outputs[dim]) - before
        if "replication" in operation.name:
            index = index.clip(0, size - 1)
        else:
            index = np.abs(index)
            index = np.where(index >= size, 2 * (size - 1) - index, index)
        seen = seen.rearranged(dim, index, -before)
    return seen


@rule("pixel_shuffle")
def _shuffle_pixels(operation: Operation) -> Reach:
    """Return (*, C, H r, W r) for (*, C r^2, H, W) [Shi et al. 2016]."""
    seen, factor = operation.reach("self"), operation["upscale_factor"]
    *before, channels, height, width = seen.shape
    split = seen.reshaped((*before, channels // factor**2, factor, factor, height, width))
    first = len(before)
    order = [*range(first + 1), first + 3, first + 1, first + 4, first + 2]
    return split.permuted(order).reshaped(operation.shape)


@rule("pixel_unshuffle")
def _unshuffle_pixels(operation: Operation) -> Reach:
    """Return (*, C r^2, H, W) for (*, C, H r, W r)."""
    seen, factor = operation.reach("self"), operation["downscale_factor"]
    *before, channels, height, width = seen.shape
    split = seen.reshaped((*before, channels, height // factor, factor, width // factor, factor))
    first = len(before)
    order = [*range(first + 1), first + 2, first + 4, first + 1, first + 3]
    return split.permuted(order).reshaped(operation.shape)


@rule("channel_shuffle", "native_channel_shuffle")
def _shuffle_channels(operation: Operation) -> Reach:
    """Return the channels of (N, g k, ...) in the order of (N, k, g, ...) [Zhang et al. 2018]."""
    seen, groups = operation.reach("self"), operation["groups"]
    batch, channels, *space = seen.shape
    split = seen.reshaped((batch, groups, channels // groups, *space))
    return split.permuted([0, 2, 1, *range(3, len(space) + 3)]).reshaped(seen.shape)
