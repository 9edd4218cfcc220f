"""What each operator does with constants among its arguments: tables of names, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from torch._ops import OpOverload

from spatialprobe.fields.rules import rule_for
from spatialprobe.fields.rules.table import elementwise


class Role(Enum):
    """What an argument does to the others."""

    NOTHING = auto()  # an index, or what the operator's rule looks at
    MASKS = auto()  # zeros hide the same place of the other argument, which is zero then
    SCALES = auto()  # zeros hide what they multiply
    DIVIDES = auto()  # infinities hide what they divide
    CONTRACTS = auto()  # a matrix: zeros hide what they multiply, unless it is a layer's weight
    WIDENS = auto()  # a factor of some of the other arguments
    SHIFTS = auto()  # what is far below or above zero hides what it is added to, at once or in the next softmax
    BOTH = auto()  # of an operator that is not listed
    BLENDS = auto()  # zeros hide the one, ones the other
    WEIGHS = auto()  # added to scores within an attention, or truth values of which score counts
    BASE = auto()  # of a power
    EXPONENT = auto()
    FLOOR = auto()  # what is far above zero hides all
    CEILING = auto()  # what is far below zero does
    COMPARES = auto()  # both do
    BESIDE = auto()  # values in places of their own


class Passing(Enum):
    """What becomes of large values in an operator's result."""

    KEEPS = auto()  # they stay what they are
    SUMS = auto()  # elements are added up
    CONTRACTS = auto()  # the same, of products; a layer's weights decide, where there are some
    CLEARS = auto()  # a norm, after which they are what its weights say
    SATURATES = auto()  # a nonlinearity: what is far off counts for nothing
    BENDS = auto()  # one that a factor passes through, as in a ReLU
    HIGHEST = auto()  # of several elements the largest counts
    LOWEST = auto()


@dataclass(frozen=True, slots=True)
class Handling:
    """What an operator does with constants among its arguments, and with what they have left in others."""

    tensors: tuple[tuple[str, Role], ...]
    numbers: tuple[tuple[str, Role], ...]
    passing: Passing
    multiplies: bool  # a zero in one argument hides the same place of another
    multiplies_itself: bool  # one in one place hides other places
    divides: bool  # the second argument divides the first
    adds: bool  # arguments are added up
    places: bool  # its arguments stand beside one another in its result
    apart: bool  # no element meets another of the same argument
    squashes: bool  # what is far from zero is all alike


def names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_ADDING = names("add sub rsub mse_loss smooth_l1_loss huber_loss _cdist_forward _euclidean_dist")
_COMPARING = names("eq ne lt le gt ge hypot logaddexp logaddexp2")
_FLOORS = names("maximum fmax clamp_min threshold hardshrink softshrink")
_CEILINGS = names("minimum fmin clamp_max")
_MASKED_BY = names("mul bitwise_and logical_and")
_SCALING = names("mul div addcmul addcdiv prod cumprod xlogy bitwise_and logical_and")
_PRODUCTS = names(
    "mm bmm matmul dot mv vdot linear addmm addmv baddbmm addbmm addr ger _int_mm convolution _convolution"
)
_NORMS = names(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update "
    "_batch_norm_no_update cudnn_batch_norm batch_norm native_layer_norm layer_norm rms_norm _fused_rms_norm "
    "native_group_norm group_norm"
)
_LINEAR = names(
    "add sub rsub mul div neg clone _to_copy to copy contiguous detach alias lift lift_fresh lift_fresh_copy "
    "dropout native_dropout real imag view_as_complex view_as_real _conj resolve_conj where masked_fill lerp tril triu"
)
_SUMMING = names(
    "sum mean nansum nanmean avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d im2col col2im unfold cumsum"
)
_BENDING = names("relu leaky_relu prelu _prelu_kernel abs hardtanh clamp clamp_min clamp_max threshold rrelu")
_HIGHEST = names(
    "amax max max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d maximum fmax cummax argmax _cummax_helper"
)
_LOWEST = names("amin min minimum fmin cummin argmin")
_SQUASHING = names("sigmoid log_sigmoid tanh erf erfc hardsigmoid logsumexp _safe_softmax softmin")
_MOVING = ("rules.shapes", "rules.placing", "rules.resampling")  # modules of rules of operators that move elements
_PLACED = names("copy where complex polar bucketize searchsorted masked_scatter masked_fill")
_NO_VALUES = names(
    "index indices running_mean running_var boundaries sorted_sequence sorter scale zero_point noise "
    "input_scale save_mean save_invstd mean rstd mask condition"
)
_ADDED_PRODUCTS = names("addmm addmv baddbmm addbmm addr")
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
    """Return what an operator does with constants; one from outside aten has a rule of its own, which says it."""
    library, _, name = operator._schema.name.partition("::")
    base = name.removesuffix("_")
    rule = rule_for(operator)
    module = getattr(rule, "__module__", "")
    moves = module.endswith(_MOVING)
    roles = {
        argument.name: _role(base, argument.name, moves=moves)
        for argument in operator._schema.arguments
        if library == "aten" and "Tensor" in str(argument.type)
    }
    return Handling(
        tuple((argument, role) for argument, role in roles.items() if role is not Role.NOTHING),
        tuple(_NUMBERS.get(base, {}).items()) if library == "aten" else (),
        _passing(base, module, moves=moves),
        base in _SCALING | _PRODUCTS or base == "neg" or "attention" in base,
        base in ("prod", "cumprod"),
        base == "div",
        base in _ADDING | _ADDED_PRODUCTS or base in ("addcmul", "addcdiv", "lerp"),
        moves or base in _PLACED,
        moves or rule is elementwise or module.endswith("rules.elementwise"),
        base in _SQUASHING or "softmax" in base or "attention" in base,
    )


def _passing(base: str, module: str, *, moves: bool) -> Passing:
    if base in _PRODUCTS | _NORMS:
        return Passing.CONTRACTS if base in _PRODUCTS else Passing.CLEARS
    if base in _SUMMING or module.endswith("rules.resampling"):
        return Passing.SUMS
    if base in _HIGHEST or base in _LOWEST:
        return Passing.HIGHEST if base in _HIGHEST else Passing.LOWEST
    if base in _BENDING:
        return Passing.BENDS
    return Passing.KEEPS if moves or base in _LINEAR else Passing.SATURATES


def _role(base: str, argument: str, *, moves: bool) -> Role:
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
