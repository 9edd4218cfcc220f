"""Rules of operators that keep every element where it is, and of those that make constants."""

from __future__ import annotations

from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import elementwise, rule, ship

# Elementwise, but not tagged so by every release of torch.
_ELEMENTWISE = (
    "alias clone contiguous detach lift lift_fresh lift_fresh_copy _to_copy to type_as _conj _conj_physical "
    "resolve_conj real imag view_as_real_copy nan_to_num leaky_relu _prelu_kernel prelu rrelu rrelu_with_noise "
    "rrelu_with_noise_functional dropout native_dropout alpha_dropout feature_dropout bernoulli "
    "fake_quantize_per_tensor_affine _assert_tensor_metadata polar complex lerp bucketize searchsorted hardswish "
    "log_sigmoid_forward log_sigmoid special_i0 cross linalg_cross"
)
_CONSTANTS = (
    "zeros zeros_like ones ones_like full full_like empty empty_like empty_strided empty_permuted new_empty "
    "new_empty_strided new_zeros new_ones new_full rand rand_like randn randn_like randint randint_like "
    "randperm normal arange linspace logspace eye scalar_tensor zero fill uniform normal_functional random "
    "exponential hann_window hamming_window tril_indices triu_indices"
)

for _name in _ELEMENTWISE.split():
    ship(f"aten::{_name}", elementwise)
for _name in _CONSTANTS.split():
    ship(f"aten::{_name}", lambda operation: constant(operation.shape))


@rule("copy")
def _copied(operation: Operation) -> Reach:
    return operation.reach("src").expanded(operation.shape)


@rule("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "logical_xor", "isnan", "isinf")
def _compared(operation: Operation) -> Reach:
    """The comparison of constants is what masks are made of."""
    return elementwise(operation).as_mask()


@rule("masked_fill")
def _mask_filled(operation: Operation) -> Reach:
    """A constant that is filled in places is a mask; a constant mask hides what it fills."""
    filled = union(operation.reaches(), operation.shape)
    return filled.as_mask() if filled.is_constant or not operation.reach("mask").is_constant else filled.inexact()


@rule("where")
def _chosen(operation: Operation) -> Reach:
    """A constant condition hides one of the two values."""
    chosen = elementwise(operation)
    if "condition" in operation and operation.reach("condition").is_constant:
        return chosen.as_mask() if chosen.is_constant else chosen.inexact()
    return chosen


@rule("tril", "triu")
def _triangle(operation: Operation) -> Reach:
    return elementwise(operation).as_mask().inexact()


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "batch_norm",
)
def _batch_normed(operation: Operation) -> Reach:
    """Batch norm as in evaluation; outside a module for it (in an instance norm), each channel's statistics count."""
    values = operation.reach("input")
    whole = operation.arguments.get("statistics_count")
    return values.mixed(range(2, len(values.shape))) if whole else values
