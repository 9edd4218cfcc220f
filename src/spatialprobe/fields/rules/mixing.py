"""Rules of operators that mix elements: reductions, softmax, matrix products, attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule, ship

_REDUCTIONS = (
    "sum mean prod amax amin max min any all argmax argmin aminmax median nanmedian mode kthvalue std var std_mean "
    "var_mean logsumexp norm linalg_vector_norm nansum nanmean count_nonzero"
)


# These say nothing of one number alone.
_SILENT = "argmax argmin argsort std var std_mean var_mean softmax log_softmax _softmax _log_softmax _safe_softmax"
_VALUES = ("std_mean", "var_mean", "aminmax")  # whose second result is no place
_PLACES = ("argmax", "argmin", "argsort")  # nor do these of one number among constants, which may be infinite


def _reduced(operation: Operation) -> Reach | list[Reach]:
    """All along the reduced dimensions; of two tensors (`torch.max(a, b)`), element by element."""
    if "other" in operation:
        return union(operation.reaches(), operation.shape)
    seen = operation.reach("self")
    dims = _dims(operation, seen)
    return _spoken(operation, seen, dims, seen.reduced(dims).reshaped(operation.shape))


def _spoken(operation: Operation, seen: Reach, dims: Sequence[int], result: Reach) -> list[Reach]:
    """Return what the results see of an operator along dimensions; of one number some say nothing, nor does its place.

    Its place among constants may be fixed, too: the largest of `[x, -inf]` is always `x`.
    """
    name, alone = operation.name.removeprefix("aten::"), _count(seen, dims) == 1
    fixed = alone or (
        (name in _PLACES or (len(operation.results) > 1 and name not in _VALUES)) and _fewest(seen, dims) == 1
    )
    first = result.inexact() if (alone and name in _SILENT.split()) or (fixed and name in _PLACES) else result
    return [first, *(result.inexact() if fixed else result for _ in operation.results[1:])]


def _fewest(seen: Reach, dims: Sequence[int]) -> int:
    """Return how few of the numbers along dimensions depend on the input, of those results that depend on it at all."""
    if seen.is_constant:
        return 0
    depends = np.zeros((1,) * len(seen.shape), np.bool_)
    for span in seen.spans:
        depends = depends | (span.lo < span.hi)
    if depends.all():
        return _count(seen, dims)
    counts = np.broadcast_to(depends, seen.shape).sum(axis=tuple(dim % len(seen.shape) for dim in dims))
    return int(counts[counts > 0].min())


for _name in _REDUCTIONS.split():
    ship(f"aten::{_name}", _reduced)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "sort", "argsort", "glu_jvp")
def _mixed_along_one(operation: Operation) -> list[Reach]:
    """Each element depends on all along one dimension."""
    seen, dim = operation.reach("self"), operation["dim"]
    return _spoken(operation, seen, [dim], seen.mixed([dim]))


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def _transformed(operation: Operation) -> Reach:
    """Every frequency sees all along the transformed dimensions."""
    seen = operation.reach("self")
    return seen.reduced(operation["dim"], keepdim=True).expanded(operation.shape)


@rule("topk")
def _largest(operation: Operation) -> list[Reach]:
    """Any of those along the dimension may be among the largest."""
    seen, dim = operation.reach("self"), operation["dim"]
    largest = seen.reduced([dim], keepdim=True).expanded(operation.shape)
    return _spoken(operation, seen, [dim], largest)


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper")
def _accumulated(operation: Operation) -> list[Reach]:
    """The first place is known without looking; where others found the most so far is not."""
    seen = operation.reach("self")
    total = seen.accumulated(operation["dim"] % len(seen.shape)) if seen.shape else seen
    return [total, *(total.inexact() for _ in operation.results[1:])]


@rule("linalg_cross", "cross")
def _crossed(operation: Operation) -> Reach:
    """Each of three components is made of the other two, of both vectors."""
    shape, dim = operation.shape, operation.arguments.get("dim")
    dim = shape.index(3) if dim is None else dim % len(shape)
    others = np.array([[1, 2], [0, 2], [0, 1]])
    return union([one.expanded(shape).gathered(dim, others) for one in operation.reaches()], shape)


@rule("searchsorted")
def _searched(operation: Operation) -> Reach:
    """Where a number belongs in a sorted sequence: in the last dimension, in whose order a `sorter` says."""
    sequences = [one.reduced([-1], keepdim=True) for one in operation.reaches("sorted_sequence", "sorter")]
    shape = operation.shape
    found = [one.reshaped(()) if len(one.shape) == 1 else one for one in sequences]
    return union([*(one.inexact() for one in found), *operation.reaches("self")], shape)


@rule("bucketize")
def _bucketed(operation: Operation) -> Reach:
    """Which of the intervals between boundaries a number is in: all of them have a say."""
    boundaries = operation.reach("boundaries").reduced([-1]).inexact()
    return union([boundaries, *operation.reaches("self")], operation.shape)


@rule("glu")
def _gated(operation: Operation) -> Reach:
    """One half of the dimension times the sigmoid of the other."""
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
def _multiplied(operation: Operation) -> Reach:
    """Row by column: element (i, j) sees row i of the left and column j of the right."""
    name = operation.name.removeprefix("aten::").removesuffix("_")
    adds = name.startswith(("add", "badd"))
    first, second = operation.reaches()[adds : adds + 2]
    bias = [operation.reach("self")] if adds and operation.arguments.get("beta", 1) != 0 else []
    if name == "linear":
        second = second.permuted(range(len(second.shape))[::-1])
        bias = [operation.reach("bias")] if "bias" in operation else []
    left, right = _rows(first, name), _columns(second, name)
    if name == "addbmm":  # the products of the batch are added up
        left, right = left.reduced([0]), right.reduced([0])
    return union([_outer(left, right, operation.shape), *bias], operation.shape)


def _rows(left: Reach, name: str) -> Reach:
    """(..., n, k) to (..., n, 1); of an outer product (n,) to (n, 1)."""
    if name in ("ger", "addr"):
        return left.reshaped((*left.shape, 1))
    return left.reduced([-1], keepdim=True)


def _columns(right: Reach, name: str) -> Reach:
    """(..., k, m) to (..., 1, m), (k,) to (1,); of an outer product (m,) to (1, m)."""
    if name in ("ger", "addr"):
        return right.reshaped((1, *right.shape))
    return right.reduced([-2 if len(right.shape) > 1 else -1], keepdim=True)


def _outer(left: Reach, right: Reach, shape: tuple[int, ...]) -> Reach:
    """The union of rows and columns; a vector on either side has no dimension in the result."""
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
def _attended(operation: Operation) -> Reach:
    """Each query sees all keys and values [Vaswani et al. 2017]; those that a causal one does not are seen too."""
    query, key, value = operation.reaches("query", "key", "value")
    weights = union(
        [query.reduced([-1], keepdim=True), key.reduced([-2, -1], keepdim=True)],
        (*operation.shape[:-1], 1),
    )
    seen = union([weights, value.reduced([-2], keepdim=True)], operation.shape)
    masks = [name for name in ("attn_mask", "attn_bias") if name in operation]
    masked = operation.with_all_of(seen, *masks)
    return masked if masked is seen and not operation.arguments.get("is_causal") else masked.inexact()


def _count(seen: Reach, dims: Sequence[int]) -> int:
    """How many elements there are along these dimensions together."""
    return prod(seen.shape[dim] for dim in dims) if seen.shape else 1


def _dims(operation: Operation, seen: Reach) -> Sequence[int]:
    """The reduced dimensions: all, where none is named."""
    dims = operation.arguments.get("dim")
    if dims is None or dims == []:
        return range(len(seen.shape))
    return [dims] if isinstance(dims, int) else dims
