"""The effect of constants among an operator's arguments: tables of operator names, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from torch._ops import OpOverload

from spatialprobe.fields.rules import rule_for
from spatialprobe.fields.rules.table import elementwise


class Role(Enum):
    """The effect of an argument on the others."""

    NOTHING = auto()  # an index, or an argument that the operator's rule reads itself
    MASKS = auto()  # zeros hide the same place of the other argument: the result is zero there
    SCALES = auto()  # zeros hide what they multiply
    DIVIDES = auto()  # infinities hide what they divide
    CONTRACTS = auto()  # a matrix: zeros hide what they multiply, unless it is a layer's weight
    WIDENS = auto()  # a factor of some of the other arguments
    SHIFTS = auto()  # values far below or above zero hide what they are added to, at once or in the next softmax
    BOTH = auto()  # an argument of an operator that is not listed: it may shift and scale
    BLENDS = auto()  # zeros hide the one, ones the other
    WEIGHS = auto()  # added to the scores of an attention, or a boolean mask of the scores that count
    BASE = auto()  # of a power
    EXPONENT = auto()
    FLOOR = auto()  # values far above zero hide all
    CEILING = auto()  # values far below zero hide all
    COMPARES = auto()  # values far above or below zero hide all
    BESIDE = auto()  # values in places of their own


class Passing(Enum):
    """The effect of an operator on large values."""

    KEEPS = auto()  # they stay as they are
    SUMS = auto()  # elements are added up
    CONTRACTS = auto()  # products are added up; a layer's weights decide the size, if there are some
    CLEARS = auto()  # a norm, after which its weights decide the size
    SATURATES = auto()  # a nonlinearity: values far from zero have no influence
    BENDS = auto()  # a nonlinearity that preserves factors, such as a ReLU
    HIGHEST = auto()  # the largest of several elements counts
    LOWEST = auto()  # the least counts


@dataclass(frozen=True, slots=True)
class Handling:
    """The way in which an operator treats constants among its arguments, and the effects of earlier constants."""

    tensors: tuple[tuple[str, Role], ...]
    numbers: tuple[tuple[str, Role], ...]
    passing: Passing
    multiplies: bool  # a zero in one argument hides the same place of another
    multiplies_itself: bool  # a zero in one place hides other places of the same argument
    divides: bool  # the second argument divides the first
    adds: bool  # arguments are added up
    places: bool  # its arguments are placed beside one another in its result
    apart: bool  # elements of the same argument are not combined
    squashes: bool  # values far from zero give the same result


def split_names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_ADDING = split_names("add sub rsub mse_loss smooth_l1_loss huber_loss _cdist_forward _euclidean_dist")
_COMPARING = split_names("eq ne lt le gt ge hypot logaddexp logaddexp2")
_FLOORS = split_names("maximum fmax clamp_min threshold hardshrink softshrink")
_CEILINGS = split_names("minimum fmin clamp_max")
_MASKED_BY = split_names("mul bitwise_and logical_and")
_SCALING = split_names("mul div addcmul addcdiv prod cumprod xlogy bitwise_and logical_and")
_PRODUCTS = split_names(
    "mm bmm matmul dot mv vdot linear addmm addmv baddbmm addbmm addr ger _int_mm convolution _convolution"
)
_NORMS = split_names(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update "
    "_batch_norm_no_update cudnn_batch_norm batch_norm native_layer_norm layer_norm rms_norm _fused_rms_norm "
    "native_group_norm group_norm"
)
_LINEAR = split_names(
    "add sub rsub mul div neg clone _to_copy to copy contiguous detach alias lift lift_fresh lift_fresh_copy "
    "dropout native_dropout real imag view_as_complex view_as_real _conj resolve_conj where masked_fill lerp tril triu"
)
_SUMMING = split_names(
    "sum mean nansum nanmean avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d im2col col2im unfold cumsum"
)
_BENDING = split_names("relu leaky_relu prelu _prelu_kernel abs hardtanh clamp clamp_min clamp_max threshold rrelu")
_HIGHEST = split_names(
    "amax max max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d maximum fmax cummax argmax _cummax_helper"
)
_LOWEST = split_names("amin min minimum fmin cummin argmin")
_SQUASHING = split_names("sigmoid log_sigmoid tanh erf erfc hardsigmoid logsumexp _safe_softmax softmin")
_MOVING = ("rules.shapes", "rules.placing", "rules.resampling")  # modules of rules of operators that move elements
_PLACED = split_names("copy where complex polar bucketize searchsorted masked_scatter masked_fill")
_NO_VALUES = split_names(
    "index indices running_mean running_var boundaries sorted_sequence sorter scale zero_point noise "
    "input_scale save_mean save_invstd mean rstd mask condition lengths offsets "
    "observer_on fake_quant_on fake_quant_enabled running_min running_max"
)
_ADDED_PRODUCTS = split_names("addmm addmv baddbmm addbmm addr")
_NUMBERS: Mapping[str, Mapping[str, Role]] = {
    "mul": {"other": Role.SCALES},
    "div": {"other": Role.DIVIDES},
    "floor_divide": {"other": Role.DIVIDES},
    "pow": {"self": Role.BASE, "exponent": Role.EXPONENT},
    "xlogy": {"self": Role.SCALES},
    "add": {"other": Role.SHIFTS, "alpha": Role.WIDENS},
    "sub": {"other": Role.SHIFTS, "alpha": Role.WIDENS},
    "rsub": {"other": Role.SHIFTS, "alpha": Role.WIDENS},
    "addcmul": {"value": Role.WIDENS},
    "addcdiv": {"value": Role.WIDENS},
    "lerp": {"weight": Role.BLENDS},
    "bitwise_and": {"other": Role.SCALES},
    "clamp": {"min": Role.FLOOR, "max": Role.CEILING},
    "clamp_min": {"min": Role.FLOOR},
    "clamp_max": {"max": Role.CEILING},
    "hardtanh": {"min_val": Role.FLOOR, "max_val": Role.CEILING},
    "threshold": {"threshold": Role.FLOOR},
    "hardshrink": {"lambd": Role.FLOOR},
    "softshrink": {"lambd": Role.FLOOR},
    **{name: {"other": Role.COMPARES} for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: {"value": Role.BESIDE} for name in ("constant_pad_nd", "masked_fill", "index_fill", "scatter")},
    **{name: {"alpha": Role.WIDENS, "beta": Role.WIDENS} for name in _ADDED_PRODUCTS},
}


def handling_of(operator: OpOverload) -> Handling:
    """Return how an operator treats constants; for one from outside aten, its own rule says so."""
    library, _, name = operator._schema.name.partition("::")
    base = name.removesuffix("_")
    rule = rule_for(operator)
    module = getattr(rule, "__module__", "")
    moves = module.endswith(_MOVING)
    roles = {
        argument.name: _role_of(base, argument.name, moves=moves)
        for argument in operator._schema.arguments
        if library == "aten" and "Tensor" in str(argument.type)
    }
    return Handling(
        tuple((argument, role) for argument, role in roles.items() if role is not Role.NOTHING),
        tuple(_NUMBERS.get(base, {}).items()) if library == "aten" else (),
        _passing_of(base, module, moves=moves),
        base in _SCALING | _PRODUCTS or base == "neg" or "attention" in base,
        base in ("prod", "cumprod"),
        base == "div",
        base in _ADDING | _ADDED_PRODUCTS or base in ("addcmul", "addcdiv", "lerp"),
        moves or base in _PLACED,
        moves or rule is elementwise or module.endswith("rules.elementwise"),
        base in _SQUASHING or "softmax" in base or "attention" in base,
    )


def _passing_of(base: str, module: str, *, moves: bool) -> Passing:
    """Return the effect of an operator on large values."""
    if base in _PRODUCTS | _NORMS:
        return Passing.CONTRACTS if base in _PRODUCTS else Passing.CLEARS
    if base in _SUMMING or module.endswith("rules.resampling"):
        return Passing.SUMS
    if base in _HIGHEST or base in _LOWEST:
        return Passing.HIGHEST if base in _HIGHEST else Passing.LOWEST
    if base in _BENDING:
        return Passing.BENDS
    return Passing.KEEPS if moves or base in _LINEAR else Passing.SATURATES


def _role_of(base: str, argument: str, *, moves: bool) -> Role:
    """Return the effect of an operator's argument on the others."""
    if argument in _NO_VALUES or base in ("copy", "bucketize", "searchsorted"):
        return Role.NOTHING
    if moves or base in _PLACED:
        return Role.BESIDE
    if argument in ("attn_mask", "attn_bias"):
        return Role.WEIGHS
    bounds = {"min": Role.FLOOR, "max": Role.CEILING}
    if base.startswith("clamp") and argument in bounds:
        return bounds[argument]
    if base == "pow":
        return Role.BASE if argument == "self" else Role.EXPONENT
    if base in _FLOORS | _CEILINGS | _COMPARING:
        return Role.FLOOR if base in _FLOORS else Role.CEILING if base in _CEILINGS else Role.COMPARES
    if (base, argument) in (("lerp", "weight"), ("xlogy", "other")):
        return Role.BLENDS
    added = base.startswith(("addm", "badd", "addb", "addr", "addc"))
    if argument == "bias" or base in _ADDING or (argument == "self" and added):
        return Role.SHIFTS
    if base in _PRODUCTS | _NORMS or "attention" in base:
        return Role.CONTRACTS
    if base == "div":
        return Role.DIVIDES if argument == "other" else Role.MASKS
    if base in _MASKED_BY:
        return Role.MASKS
    return Role.SCALES if base in _SCALING else Role.BOTH
