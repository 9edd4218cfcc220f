"""Rules of operators that mix elements: reductions, softmax, matrix products, attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule, rule
from spatialprobe.fields.taps import NONE

_REDUCTIONS = (
    "sum mean prod amax amin max min any all argmax argmin aminmax median nanmedian mode kthvalue std var std_mean "
    "var_mean logsumexp norm linalg_vector_norm nansum nanmean count_nonzero"
)


# Their result for a single number does not depend on it.
_SILENT = "argmax argmin argsort std var std_mean var_mean softmax log_softmax _softmax _log_softmax _safe_softmax"
_VALUES = ("std_mean", "var_mean", "aminmax")  # whose second result is not an index
_INDICES = ("argmax", "argmin", "argsort")  # nor of a single number among constants, which may be infinite


def _reduce(operation: Operation) -> Reach | list[Reach]:
    """Return all along the reduced dimensions; for two tensors (`torch.max(a, b)`), element by element."""
    if "other" in operation:
        return union(operation.reaches(), operation.shape)
    seen = operation.reach("self")
    dims = _reduced_dims(operation, seen)
    return _mark_single(operation, seen, dims, seen.reduced(dims).reshaped(operation.shape))


def _mark_single(operation: Operation, seen: Reach, dims: Sequence[int], result: Reach) -> list[Reach]:
    """Return what the results of an operator along dimensions see; some, and indices, do not depend on a single number.

    The index of a single number among constants may be fixed, too: the largest of `[x, -inf]` is always `x`.
    """
    name, alone = operation.name.removeprefix("aten::"), _count_elements(seen, dims) == 1
    fixed = alone or (
        (name in _INDICES or (len(operation.results) > 1 and name not in _VALUES)) and _count_fewest(seen, dims) == 1
    )
    first = result.inexact() if (alone and name in _SILENT.split()) or (fixed and name in _INDICES) else result
    return [first, *(result.inexact() if fixed else result for _ in operation.results[1:])]


def _count_fewest(seen: Reach, dims: Sequence[int]) -> int:
    """Return the fewest numbers along dimensions that depend on the input, over the results that depend on it."""
    if seen.is_constant:
        return 0
    depends = np.zeros((1,) * len(seen.shape), np.bool_)
    for span in seen.spans:
        depends = depends | (span.lo < span.hi)
    if depends.all():
        return _count_elements(seen, dims)
    counts = np.broadcast_to(depends, seen.shape).sum(axis=tuple(dim % len(seen.shape) for dim in dims))
    return int(counts[counts > 0].min())


for _name in _REDUCTIONS.split():
    add_rule(f"aten::{_name}", _reduce)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "sort", "argsort", "glu_jvp")
def _mix_along_one(operation: Operation) -> list[Reach]:
    """Return elements that depend on all along one dimension."""
    seen, dim = operation.reach("self"), operation["dim"]
    return _mark_single(operation, seen, [dim], seen.mixed([dim]))


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def _transform(operation: Operation) -> Reach:
    """Return frequencies, each of which sees all along the transformed dimensions."""
    seen = operation.reach("self")
    return seen.reduced(operation["dim"], keepdim=True).expanded(operation.shape)


@rule("topk")
def _take_largest(operation: Operation) -> list[Reach]:
    """Return all along the dimension: any element may be among the largest."""
    seen, dim = operation.reach("self"), operation["dim"]
    largest = seen.reduced([dim], keepdim=True).expanded(operation.shape)
    return _mark_single(operation, seen, [dim], largest)


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper")
def _accumulate(operation: Operation) -> list[Reach]:
    """Return the union of each position with all before it; the first index does not depend on values."""
    seen = operation.reach("self")
    total = seen.accumulated(operation["dim"] % len(seen.shape)) if seen.shape else seen
    return [total, *(total.inexact() for _ in operation.results[1:])]


@rule("segment_reduce")
def _reduce_segments(operation: Operation) -> Reach:
    """Return the sum, mean or extreme of each segment of a dimension, of known lengths or between known offsets."""
    seen, axis = operation.reach("data"), operation["axis"]
    given = "lengths" if "lengths" in operation else "offsets"
    values = operation.values(given)
    rows = None if values is None else values.reshape(-1, values.shape[-1])
    if rows is None or (rows != rows[:1]).any():
        whole = seen.reduced([axis], keepdim=True).expanded(operation.shape)
        return operation.with_all_of(whole, given).inexact()
    edges = np.concatenate([[0], rows[0].cumsum()]) if given == "lengths" else rows[0]
    places = edges[:-1, None] + np.arange(max(1, int(np.diff(edges).max())))
    made = seen.gathered(axis, np.where(places < edges[1:, None], places, NONE))
    return made.inexact() if "initial" in operation and operation["reduce"] != "sum" else made


@rule("linalg_cross", "cross")
def _cross(operation: Operation) -> Reach:
    """Return components, each of which is computed from the other two of both vectors."""
    shape, dim = operation.shape, operation.arguments.get("dim")
    dim = shape.index(3) if dim is None else dim % len(shape)
    others = np.array([[1, 2], [0, 2], [0, 1]])
    return union([one.expanded(shape).gathered(dim, others) for one in operation.reaches()], shape)


@rule("searchsorted")
def _search(operation: Operation) -> Reach:
    """Return the place of each number in a sorted sequence, along its last dimension, perhaps ordered by a `sorter`."""
    sequences = [one.reduced([-1], keepdim=True) for one in operation.reaches("sorted_sequence", "sorter")]
    shape = operation.shape
    found = [one.reshaped(()) if len(one.shape) == 1 else one for one in sequences]
    return union([*(one.inexact() for one in found), *operation.reaches("self")], shape)


@rule("bucketize")
def _bucketize(operation: Operation) -> Reach:
    """Return the bucket of each number, which depends on all boundaries."""
    boundaries = operation.reach("boundaries").reduced([-1]).inexact()
    return union([boundaries, *operation.reaches("self")], operation.shape)


@rule("glu")
def _gate(operation: Operation) -> Reach:
    """Return one half of the dimension times the sigmoid of the other."""
    seen, dim = operation.reach("self"), operation["dim"]
    half, dim = operation.shape[dim], dim % len(seen.shape)
    return union([seen.sliced(dim, start, 1, half) for start in (0, half)], operation.shape)


@rule(
    "mm",
    "bmm",
    "matmul",
    "dot",
    "mv",
    "_int_mm",
    "vdot",
    "linear",
    "addmm",
    "addmv",
    "baddbmm",
    "addbmm",
    "addr",
    "ger",
)
def multiply(operation: Operation) -> Reach:
    """Return a matrix product: element (i, j) sees row i of the left and column j of the right."""
    name = operation.name.removeprefix("aten::").removesuffix("_")
    adds = name.startswith(("add", "badd"))
    first, second = operation.reaches()[adds : adds + 2]
    bias = [operation.reach("self")] if adds and operation.arguments.get("beta", 1) != 0 else []
    if name == "linear":
        second = second.permuted(range(len(second.shape))[::-1])
        bias = [operation.reach("bias")] if "bias" in operation else []
    left, right = _reduce_rows(first, name), _reduce_columns(second, name)
    if name == "addbmm":  # the products of the batch are added up
        left, right = left.reduced([0]), right.reduced([0])
    return union([_combine(left, right, operation.shape), *bias], operation.shape)


def _reduce_rows(left: Reach, name: str) -> Reach:
    """Return what the rows see: (..., n, k) to (..., n, 1); for an outer product (n,) to (n, 1)."""
    if name in ("ger", "addr"):
        return left.reshaped((*left.shape, 1))
    return left.reduced([-1], keepdim=True)


def _reduce_columns(right: Reach, name: str) -> Reach:
    """Return what the columns see: (..., k, m) to (..., 1, m), (k,) to (1,); for an outer product (m,) to (1, m)."""
    if name in ("ger", "addr"):
        return right.reshaped((1, *right.shape))
    return right.reduced([-2 if len(right.shape) > 1 else -1], keepdim=True)


def _combine(left: Reach, right: Reach, shape: tuple[int, ...]) -> Reach:
    """Return the union of rows and columns; a vector on either side has no dimension in the result."""
    if len(right.shape) == 1:
        left, right = left.reshaped(left.shape[:-1]), right.reshaped(())
    elif len(left.shape) == 1:
        left, right = left.reshaped(()), right.reshaped((*right.shape[:-2], right.shape[-1]))
    return union([left, right], shape)


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attend(operation: Operation) -> Reach:
    """Return queries that see all keys and values [Vaswani et al. 2017]; an upper bound for causal attention."""
    query, key, value = operation.reaches("query", "key", "value")
    weights = union(
        [query.reduced([-1], keepdim=True), key.reduced([-2, -1], keepdim=True)],
        (*operation.shape[:-1], 1),
    )
    seen = union([weights, value.reduced([-2], keepdim=True)], operation.shape)
    masks = [name for name in ("attn_mask", "attn_bias") if name in operation]
    masked = operation.with_all_of(seen, *masks)
    return masked if masked is seen and not operation.arguments.get("is_causal") else masked.inexact()


def _count_elements(seen: Reach, dims: Sequence[int]) -> int:
    """Return the number of elements along these dimensions together."""
    return prod(seen.shape[dim] for dim in dims) if seen.shape else 1


def _reduced_dims(operation: Operation, seen: Reach) -> Sequence[int]:
    """Return the reduced dimensions: all, if none is named."""
    dims = operation.arguments.get("dim")
    if dims is None or dims == []:
        return range(len(seen.shape))
    return [dims] if isinstance(dims, int) else dims
