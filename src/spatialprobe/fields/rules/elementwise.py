"""Rules of operators that keep every element where it is, and of those that make constants."""

from __future__ import annotations

import numpy as np

from spatialprobe.fields.reach import Reach, union
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
# Of whatever values the tensor has whose place or shape they take.
_CONSTANTS = (
    "zeros zeros_like ones ones_like full full_like empty empty_like empty_strided empty_permuted new_empty "
    "new_empty_strided new_zeros new_ones new_full rand rand_like randn randn_like randint randint_like "
    "randperm arange linspace logspace eye scalar_tensor zero uniform normal_functional random "
    "exponential hann_window hamming_window tril_indices triu_indices"
)
CONSTANTS = frozenset(_CONSTANTS.split())

for _name in _ELEMENTWISE.split():
    ship(f"aten::{_name}", elementwise)


def _made(operation: Operation) -> Reach:
    """A constant, unless another tensor says of which values: a number to fill with, a mean, a range."""
    others = [name for name in operation.arguments if name not in ("self", "out")]
    given = [one for one in (operation.reaches(*others) if others else ()) if not one.is_constant]
    return union([one.everything(operation.shape) for one in given], operation.shape).inexact()


for _name in CONSTANTS:
    ship(f"aten::{_name}", _made)


@rule("fill", "normal")
def _filled(operation: Operation) -> Reach:
    """As many values as another tensor says, or a mean and a spread; not what was there."""
    others = [name for name in operation.arguments if name not in ("self", "out")]
    return union(operation.reaches(*others), operation.shape)


@rule("copy")
def _copied(operation: Operation) -> Reach:
    return operation.reach("src").expanded(operation.shape)


@rule("masked_fill")
def _mask_filled(operation: Operation) -> Reach:
    """Where the mask is true an element is the number that it is filled with."""
    return _one_of(operation, "mask", "value", "self")


@rule("where")
def _chosen(operation: Operation) -> Reach:
    """Either of the two, as a constant condition says."""
    if "condition" not in operation or "self" not in operation:
        return elementwise(operation)
    return _one_of(operation, "condition", "self", "other")


def _one_of(operation: Operation, mask: str, first: str, second: str) -> Reach:
    """The first of two arguments where a mask is true, else the second; either, where it depends on the input."""
    if not operation.reach(mask).is_constant:
        return elementwise(operation)
    values = operation.values(mask)
    if values is None:
        return elementwise(operation).inexact()
    shape, true = operation.shape, values != 0
    arguments = [(first, ~true), (second, true)]
    reaches = [(operation.reaches(name), hidden) for name, hidden in arguments if name in operation]
    return union([seen.expanded(shape).emptied(hidden) for found, hidden in reaches for seen in found], shape)


@rule("tril", "triu")
def _triangle(operation: Operation) -> Reach:
    ones = np.ones(operation.shape[-2:], bool)
    cut = np.tril if "tril" in operation.name else np.triu
    return elementwise(operation).emptied(~cut(ones, operation["diagonal"]))


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
