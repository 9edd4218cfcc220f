"""What constants hide: where the values of a constant may keep an operator's result from seeing another argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import torch
from torch._ops import OpOverload

from spatialprobe.fields.constants import Constants, Kind
from spatialprobe.fields.reach import Reach
from spatialprobe.fields.rules import rule_for

SATURATES = 16.0  # added before a softmax, it leaves nothing of values around zero in float32: exp(-16) is its rounding
SWALLOWS = 2.0**20  # values around zero that are added to it are lost to rounding by themselves


class Role(Enum):
    """What an argument does to the others."""

    NOTHING = auto()  # an index, or values that are placed beside others
    SCALES = auto()  # zeros hide what they multiply
    CONTRACTS = auto()  # a matrix: zeros hide what they multiply, unless it is a layer's weight
    SHIFTS = auto()  # what is far below or above zero hides what it is added to, at once or in the next softmax
    BOTH = auto()  # of an operator that is not listed
    BLENDS = auto()  # zeros hide the one, ones the other
    COVERS = auto()  # what is true hides
    WEIGHS = auto()  # added to scores within an attention, or truth values of which score counts


class Passing(Enum):
    """What becomes of a shift, or of zeros, in an operator's result."""

    KEEPS = auto()
    CLEARS = auto()  # a layer's weights decide
    SATURATES = auto()  # a nonlinearity, a softmax, a maximum: what is far off counts for nothing


@dataclass(frozen=True, slots=True)
class Handling:
    """What an operator does with constants among its arguments, and with what they have left in others."""

    tensors: tuple[tuple[str, Role], ...]
    numbers: tuple[tuple[str, Role], ...]
    passing: Passing
    multiplies: bool  # a zero in one argument hides the same place of another
    multiplies_itself: bool  # one in one place hides other places
    places: bool  # its arguments stand beside one another in its result


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the constants of one call do."""

    hides: bool = False  # the result may see less than its arguments
    shifts: bool = False  # a softmax of it may
    solid: bool = False  # a weight is added to it: where it sees nothing it is not zero


NOTHING = Verdict()


def names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_SHIFTING = names(
    "add sub rsub maximum minimum fmax fmin clamp clamp_min clamp_max hypot logaddexp logaddexp2 eq ne lt le "
    "gt ge mse_loss smooth_l1_loss huber_loss _cdist_forward _euclidean_dist"
)
_SCALING = names("mul div addcmul addcdiv prod cumprod xlogy pow")
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
    "sum mean nansum nanmean dropout native_dropout real imag view_as_complex view_as_real _conj resolve_conj "
    "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d im2col col2im unfold cumsum"
)
_MOVING = ("rules.shapes", "rules.placing", "rules.resampling")  # modules of rules of operators that move elements
_PLACED = names("copy where complex polar bucketize searchsorted masked_scatter")
_NO_VALUES = names(
    "index indices running_mean running_var boundaries sorted_sequence sorter scale zero_point noise "
    "input_scale save_mean save_invstd mean rstd"
)
_ADDED_PRODUCTS = names("addmm addmv baddbmm addbmm addr")
_NUMBERS: Mapping[str, Mapping[str, Role]] = {
    "mul": {"other": Role.SCALES},
    "div": {"other": Role.SCALES},
    "floor_divide": {"other": Role.SCALES},
    "pow": {"exponent": Role.SCALES},
    "add": {"other": Role.SHIFTS, "alpha": Role.SCALES},
    "sub": {"other": Role.SHIFTS, "alpha": Role.SCALES},
    "rsub": {"other": Role.SHIFTS, "alpha": Role.SCALES},
    "addcmul": {"value": Role.SCALES},
    "addcdiv": {"value": Role.SCALES},
    "lerp": {"weight": Role.BLENDS},
    "bitwise_and": {"other": Role.SCALES},
    **{name: {"alpha": Role.SCALES} for name in _ADDED_PRODUCTS},
}


def handling_of(operator: OpOverload) -> Handling:
    """Return what an operator does with constants; one from outside aten has a rule of its own, which says it."""
    library, _, name = operator._schema.name.partition("::")
    base = name.removesuffix("_")
    rule = rule_for(operator)
    moves = rule is not None and rule.__module__.endswith(_MOVING)
    roles = {
        argument.name: _role(base, argument.name, moves=moves)
        for argument in operator._schema.arguments
        if library == "aten" and "Tensor" in str(argument.type)
    }
    if base in _PRODUCTS | _NORMS:
        passing = Passing.CLEARS
    else:
        passing = Passing.KEEPS if moves or base in _LINEAR else Passing.SATURATES
    return Handling(
        tuple((argument, role) for argument, role in roles.items() if role is not Role.NOTHING),
        tuple(_NUMBERS.get(base, {}).items()) if library == "aten" else (),
        passing,
        base in _SCALING | _PRODUCTS or "attention" in base,
        base in ("prod", "cumprod"),
        moves or base in _PLACED,
    )


def _role(base: str, argument: str, *, moves: bool) -> Role:
    if moves or base in _PLACED or argument in _NO_VALUES:
        return Role.NOTHING
    if argument in ("attn_mask", "attn_bias"):
        return Role.WEIGHS
    if base == "masked_fill":
        return Role.COVERS if argument == "mask" else Role.NOTHING
    if base == "lerp" and argument == "weight":
        return Role.BLENDS
    if (
        argument == "bias"
        or base in _SHIFTING
        or (argument == "self" and base.startswith(("addm", "badd", "addb", "addr")))
    ):
        return Role.SHIFTS
    if base in _PRODUCTS | _NORMS or "attention" in base:
        return Role.CONTRACTS
    return Role.SCALES if base in _SCALING else Role.BOTH


def judge(
    handling: Handling, arguments: Mapping[str, Any], constants: Constants, is_constant: Callable[[torch.Tensor], bool]
) -> Verdict:
    """Return what the constants among an operator's arguments do to the others."""
    hides = shifts = solid = False
    for name, role in handling.numbers:
        value = arguments.get(name)
        if isinstance(value, (int, float, complex)):
            hidden, shifted = _number(value, role)
            hides, shifts = hides or hidden, shifts or shifted
    for name, role in handling.tensors:
        for tensor in _tensors(arguments.get(name)):
            if not is_constant(tensor):
                continue
            kind = constants.kind(tensor)
            solid = solid or (role is Role.SHIFTS and kind in (Kind.WEIGHT, Kind.FROZEN))
            if kind is Kind.WEIGHT:
                continue
            factor = arguments.get("alpha" if name == "other" else "beta", 1)
            hidden, shifted = _looked(constants, tensor, kind, role, factor if isinstance(factor, (int, float)) else 1)
            hides, shifts = hides or hidden, shifts or shifted
    return Verdict(hides, shifts, solid) if hides or shifts or solid else NOTHING


def marked(reach: Reach) -> bool:
    """Return whether a reach has something that later operators must mind."""
    return reach.shifted or reach.zeros or not reach.exact


def settle(
    handling: Handling, verdict: Verdict, inputs: Sequence[Reach], made: Reach, *, beside_is_solid: bool
) -> Reach:
    """Return what a result sees, with what its operator's constants, and those before it, may hide.

    Args:
        handling: what the operator does with constants.
        verdict: what its constants do.
        inputs: what its other arguments see.
        made: what its rule says.
        beside_is_solid: whether the constants that it places beside them are nowhere zero.
    """
    if not made.spans:
        return made
    hides, shifted, zeros = verdict.hides, made.shifted, made.zeros
    if any(one.shifted for one in inputs):
        hides = hides or handling.passing is Passing.SATURATES
        shifted = handling.passing is Passing.KEEPS
    if handling.multiplies and (len(inputs) > 1 or handling.multiplies_itself):
        hides = hides or any(one.zeros and one.sees_nothing_somewhere for one in inputs)
    if verdict.solid or (beside_is_solid and not any(one.zeros for one in inputs)):
        zeros = False
    exact = made.exact and not hides and all(one.exact for one in inputs)
    unknown = made.unknown.union(*(one.unknown for one in inputs))
    return replace(made, exact=exact, unknown=unknown, shifted=shifted or verdict.shifts, zeros=zeros)


def _number(value: complex, role: Role) -> tuple[bool, bool]:
    """Whether a number hides, and whether it shifts."""
    size = abs(value)
    if role is Role.SHIFTS:
        return not size < SWALLOWS, size >= SATURATES
    return value == 0 or not size < float("inf") or (role is Role.BLENDS and value == 1), False


def _looked(constants: Constants, tensor: torch.Tensor, kind: Kind, role: Role, factor: float) -> tuple[bool, bool]:
    """Whether a constant hides, and whether it shifts, by its values; one whose values nobody knows may hide."""
    if kind is Kind.FROZEN and role is Role.CONTRACTS:
        return False, False
    values = constants.values(tensor)
    if values is None:
        return True, False
    if not values.numel():
        return False, False
    values = values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.stride())]
    if role is Role.COVERS:
        return bool(values.any()), False
    if role is Role.WEIGHS and values.dtype is torch.bool:
        return not bool(values.all()), False
    largest = _largest(values) * abs(factor)
    hides, shifts = False, False
    if role in (Role.SHIFTS, Role.BOTH):
        hides, shifts = not largest < SWALLOWS, largest >= SATURATES
    if role is Role.WEIGHS:
        hides = not largest < SATURATES
    if role in (Role.SCALES, Role.CONTRACTS, Role.BOTH, Role.BLENDS):
        hides = hides or not largest < float("inf") or not bool(values.all())
    if role is Role.BLENDS:
        hides = hides or bool((values == 1).any())
    return hides, shifts


def solid(constants: Constants, tensor: torch.Tensor) -> bool:
    """Return whether a constant is nowhere zero, as far as its values are known."""
    if constants.kind(tensor) in (Kind.WEIGHT, Kind.FROZEN):
        return True
    values = constants.values(tensor)
    return values is not None and bool(values.all())


def _largest(values: torch.Tensor) -> float:
    """The largest absolute value; NaN if there is one."""
    if values.dtype is torch.bool:
        return 1.0
    sizes = values.abs() if values.is_floating_point() or values.is_complex() else values.double().abs()
    return float(sizes.max())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
