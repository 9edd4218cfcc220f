"""Rules of operators that keep every element where it is, and of those that make constants."""

from __future__ import annotations

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import elementwise, rule, ship

# Elementwise, but not tagged so by every release of torch.
_ELEMENTWISE = (
    "alias clone contiguous detach lift lift_fresh lift_fresh_copy _to_copy to type_as _conj _conj_physical "
    "resolve_conj real imag view_as_real_copy nan_to_num leaky_relu rrelu rrelu_with_noise "
    "rrelu_with_noise_functional dropout native_dropout alpha_dropout feature_dropout "
    "fake_quantize_per_tensor_affine _assert_tensor_metadata polar complex lerp hardswish "
    "log_sigmoid_forward log_sigmoid special_i0"
)
# A constant among their arguments may leave nothing of the others: a true one, a positive one, an order of zero.
_HIDDEN_BY_CONSTANTS = (
    "prelu _prelu_kernel heaviside logical_or bitwise_or __or__ igamma special_gammainc igammac special_gammaincc "
    "special_zeta special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v "
    "special_chebyshev_polynomial_w special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u "
    "special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w special_hermite_polynomial_h "
    "special_hermite_polynomial_he special_laguerre_polynomial_l special_legendre_polynomial_p"
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


@rule("clamp")
def _clamped(operation: Operation) -> Reach:
    """A bound counts where a number is beyond it and the other bound allows it, which a constant may nowhere be."""
    seen = elementwise(operation)
    return seen.inexact() if operation.reach("self").is_constant else seen


def _hidden_by_constants(operation: Operation) -> Reach:
    """Some numbers in one argument leave nothing of the others."""
    seen = elementwise(operation)
    constants = any(one.is_constant for one in operation.reaches())
    numbers = any(isinstance(one, (int, float, complex)) for one in operation.arguments.values())
    return seen.inexact() if constants or numbers else seen


for _name in _HIDDEN_BY_CONSTANTS.split():
    ship(f"aten::{_name}", _hidden_by_constants)


@rule("bernoulli")
def _drawn(operation: Operation) -> Reach:
    """Ones and zeros, as often as each element says, or another argument for them all."""
    if "p" in operation:
        return union(operation.reaches("p"), operation.shape).inexact()
    return elementwise(operation)


@rule("tril", "triu")
def _triangle(operation: Operation) -> Reach:
    ones = np.ones(operation.shape[-2:], bool)
    cut = np.tril if "tril" in operation.name else np.triu
    return elementwise(operation).emptied(~cut(ones, operation["diagonal"]))
