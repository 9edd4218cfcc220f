"""Rules of operators that keep every element in its place, and of those that create constants."""

from __future__ import annotations

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import add_rule, elementwise, rule

# Elementwise, but not tagged as such by every release of torch.
_ELEMENTWISE = (
    "alias clone contiguous detach lift lift_fresh lift_fresh_copy _to_copy to type_as _conj _conj_physical "
    "resolve_conj real imag view_as_real_copy nan_to_num leaky_relu rrelu rrelu_with_noise "
    "rrelu_with_noise_functional dropout native_dropout alpha_dropout feature_dropout "
    "fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask quantize_per_tensor dequantize "
    "floor_divide _assert_tensor_metadata polar complex lerp hardswish "
    "log_sigmoid_forward log_sigmoid special_i0"
)
# A constant among their arguments may hide the others completely: True, a positive number, an order of zero.
_HIDDEN_BY_CONSTANTS = (
    "heaviside logical_or bitwise_or __or__ igamma special_gammainc igammac special_gammaincc "
    "special_zeta special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v "
    "special_chebyshev_polynomial_w special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u "
    "special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w special_hermite_polynomial_h "
    "special_hermite_polynomial_he special_laguerre_polynomial_l special_legendre_polynomial_p"
)
# Their result does not depend on the values of the tensor whose memory or shape they take.
_CONSTANTS = (
    "zeros zeros_like ones ones_like full full_like empty empty_like empty_strided empty_permuted new_empty "
    "new_empty_strided new_zeros new_ones new_full rand rand_like randn randn_like randint randint_like "
    "randperm arange linspace logspace eye scalar_tensor zero uniform normal_functional random "
    "exponential hann_window hamming_window tril_indices triu_indices"
)
CONSTANTS = frozenset(_CONSTANTS.split())

for _name in _ELEMENTWISE.split():
    add_rule(f"aten::{_name}", elementwise)


def _make_constant(operation: Operation) -> Reach:
    """Return a constant, unless another tensor determines its values: a number to fill with, a mean, a range."""
    others = [name for name in operation.arguments if name not in ("self", "out")]
    seeing = [one for one in (operation.reaches(*others) if others else ()) if not one.is_constant]
    return union([one.everything(operation.shape) for one in seeing], operation.shape).inexact()


for _name in CONSTANTS:
    add_rule(f"aten::{_name}", _make_constant)


@rule("fill", "normal")
def _fill(operation: Operation) -> Reach:
    """Return what the value to fill with, or the mean and the spread see; the previous values do not count."""
    others = [name for name in operation.arguments if name not in ("self", "out")]
    return union(operation.reaches(*others), operation.shape)


@rule("copy")
def _copy(operation: Operation) -> Reach:
    return operation.reach("src").expanded(operation.shape)


@rule("masked_fill")
def _fill_masked(operation: Operation) -> Reach:
    """Return what the value sees where the mask is True, and what the tensor sees elsewhere."""
    return _select_by_mask(operation, "mask", "value", "self")


@rule("where")
def _choose(operation: Operation) -> Reach:
    """Return what the one or the other argument sees, by a constant condition."""
    if "condition" not in operation or "self" not in operation:
        return elementwise(operation)
    return _select_by_mask(operation, "condition", "self", "other")


def _select_by_mask(operation: Operation, mask: str, first: str, second: str) -> Reach:
    """Return the first of two arguments where a mask is True, else the second; both, if it depends on the input."""
    if not operation.reach(mask).is_constant:
        return elementwise(operation)
    values = operation.values(mask)
    if values is None:
        return elementwise(operation).inexact()
    shape, true = operation.shape, values != 0
    arguments = [(first, ~true), (second, true)]
    reaches = [(operation.reaches(name), hidden) for name, hidden in arguments if name in operation]
    return union([seen.expanded(shape).emptied(hidden) for found, hidden in reaches for seen in found], shape)


@rule("clamp", "prelu", "_prelu_kernel")
def _bend(operation: Operation) -> Reach:
    """Return what numbers see, and their bounds or slopes, which count where a number is beyond them or below zero."""
    seen = elementwise(operation)
    return seen.inexact() if operation.reach("self").is_constant else seen  # a constant may not be


def _combine_hiding(operation: Operation) -> Reach:
    """Return what all arguments see; some numbers in one argument hide the others."""
    seen = elementwise(operation)
    constants = any(one.is_constant for one in operation.reaches())
    numbers = any(isinstance(one, (int, float, complex)) for one in operation.arguments.values())
    return seen.inexact() if constants or numbers else seen


for _name in _HIDDEN_BY_CONSTANTS.split():
    add_rule(f"aten::{_name}", _combine_hiding)


@rule("bernoulli")
def _draw(operation: Operation) -> Reach:
    """Return what the probabilities see: those of each element, or another argument."""
    if "p" in operation:
        return union(operation.reaches("p"), operation.shape).inexact()
    return elementwise(operation)


@rule("fake_quantize_per_channel_affine", "fake_quantize_per_channel_affine_cachemask", "quantize_per_channel")
@rule("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams")
def _quantize_channels(operation: Operation) -> Reach:
    """Each number on the scale of its channel, or of all."""
    scales = [name for name in operation.arguments if name.startswith(("scale", "zero_point"))]
    return operation.with_all_of(operation.reach("self"), *scales)


@rule("tril", "triu")
def _cut_triangle(operation: Operation) -> Reach:
    ones = np.ones(operation.shape[-2:], bool)
    cut = np.tril if "tril" in operation.name else np.triu
    return elementwise(operation).emptied(~cut(ones, operation["diagonal"]))
