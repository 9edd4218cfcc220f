"""Rules of operators that mix elements: reductions, softmax, normalisation, matrix products, attention."""

from __future__ import annotations

from collections.abc import Sequence

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule, ship

_REDUCTIONS = (
    "sum mean prod amax amin max min any all argmax argmin aminmax median nanmedian mode kthvalue std var std_mean "
    "var_mean logsumexp norm linalg_vector_norm nansum nanmean count_nonzero"
)


def _reduced(operation: Operation) -> Reach:
    """All along the reduced dimensions; of two tensors (`torch.max(a, b)`), element by element."""
    if "other" in operation:
        return union(operation.reaches(), operation.shape)
    seen = operation.reach("self")
    return seen.reduced(_dims(operation, seen)).reshaped(operation.shape)


for _name in _REDUCTIONS.split():
    ship(f"aten::{_name}", _reduced)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "sort", "argsort", "renorm", "glu_jvp")
def _mixed_along_one(operation: Operation) -> Reach:
    """Each element depends on all along one dimension."""
    seen = operation.reach("self")
    return seen.mixed([operation["dim"]])


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def _transformed(operation: Operation) -> Reach:
    """Every frequency sees all along the transformed dimensions."""
    seen = operation.reach("self")
    return seen.reduced(operation["dim"], keepdim=True).expanded(operation.shape)


@rule("topk")
def _largest(operation: Operation) -> Reach:
    """Any of those along the dimension may be among the largest."""
    seen = operation.reach("self")
    return seen.reduced([operation["dim"]], keepdim=True).expanded(operation.shape)


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper")
def _accumulated(operation: Operation) -> Reach:
    seen = operation.reach("self")
    return seen.accumulated(operation["dim"] % len(seen.shape)) if seen.shape else seen


@rule("glu")
def _gated(operation: Operation) -> Reach:
    """One half of the dimension times the sigmoid of the other."""
    seen, dim = operation.reach("self"), operation["dim"]
    half, dim = operation.shape[dim], dim % len(seen.shape)
    return union([seen.sliced(dim, start, 1, half) for start in (0, half)], operation.shape)


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_normed(operation: Operation) -> Reach:
    """Mean and variance over the last dimensions [Ba et al. 2016]."""
    seen = operation.reach("input")
    return seen.mixed(range(len(seen.shape) - len(operation["normalized_shape"]), len(seen.shape)))


@rule("native_group_norm", "group_norm")
def _group_normed(operation: Operation) -> Reach:
    """Mean and variance over all positions and the channels of a group [Wu and He 2018]."""
    seen = operation.reach("input")
    groups = operation.arguments.get("group") or operation["num_groups"]
    mixed = seen.mixed(range(2, len(seen.shape)))
    return mixed.regrouped(1, groups, seen.shape[1])


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
    bias = operation.reaches("self") if name.startswith(("add", "badd")) else []
    first, second = operation.reaches()[len(bias) : len(bias) + 2]
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


def _dims(operation: Operation, seen: Reach) -> Sequence[int]:
    """The reduced dimensions: all, where none is named."""
    dims = operation.arguments.get("dim")
    if dims is None or dims == []:
        return range(len(seen.shape))
    return [dims] if isinstance(dims, int) else dims
