"""The effect of the constants among one call's arguments on the others, found by their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import inf, log2
from typing import Any

import torch

from spatialprobe.fields.constant_storage import Kind
from spatialprobe.fields.constants import Constants
from spatialprobe.fields.handling import Handling, Role
from spatialprobe.fields.sizes import SATURATES, SWALLOWS
from spatialprobe.fields.taps import Bools

_UNKNOWN = 2 * SATURATES  # the assumed size of unknown values beside others: a softmax may be dominated by them


@dataclass(slots=True)
class Verdict:
    """The effect of the constants of one call."""

    hides: bool = False  # the result may see less than its arguments
    weighs: bool = False  # a layer's weights are among them
    solid: bool = False  # a weight is added: the result is not zero where it sees nothing
    blank: Bools | None = None  # where the result sees nothing
    low: float = 0.0  # power of two, of the least factor
    high: float = 0.0
    widens: bool = False  # whether the factors are those of some arguments only
    shift: float = 0.0  # the largest that is added
    floor: float = 0.0  # how far above zero a lower bound is
    ceiling: float = 0.0  # how far below zero an upper bound is
    least: float = 0.0  # of those that are placed beside others
    most: float = 0.0

    @property
    def acts(self) -> bool:
        """Whether there is more than a layer's weights."""
        return self is not _PLAIN[self.weighs, self.solid]

    @property
    def masks(self) -> bool:
        """Whether the result has places that are intentionally zero or far from zero."""
        return self.hides or self.blank is not None or self.shift >= SATURATES


_PLAIN = {(weighs, solid): Verdict(weighs=weighs, solid=solid) for weighs in (False, True) for solid in (False, True)}
NOTHING = _PLAIN[False, False]


def judge(
    handling: Handling,
    arguments: Mapping[str, Any],
    constants: Constants,
    is_constant: Callable[[torch.Tensor], bool],
    unused: Collection[str] = (),
    heeded: Collection[str] = (),
    find_still: Callable[[], Collection[int]] = tuple,
) -> Verdict:
    """Return the effect of the constants among an operator's arguments on the others.

    Args:
        handling: how the operator treats constants.
        arguments: by name.
        constants: what is known of them.
        is_constant: whether an argument does not depend on the input.
        unused: arguments on whose values the result does not depend.
        heeded: arguments whose zeros the operator's rule has taken into account.
        find_still: returns the dimensions of the result, counted from the last, -1, along which all elements see the
            same.
    """
    weighs = solid = False
    found: Verdict | None = None
    for name, role in handling.numbers:
        value = arguments.get(name) if name not in unused else None
        if value is not None and type(value) in (int, float, complex) and not _is_ordinary(value, role):
            found = found or Verdict()
            _add(found, torch.tensor(value, device="cpu"), role, 1.0)
    for name, role in handling.tensors:
        value = arguments.get(name)
        if value is None or name in unused:
            continue
        for tensor in (value,) if isinstance(value, torch.Tensor) else _tensors(value):
            if not is_constant(tensor) or (role is Role.BESIDE and not tensor.is_floating_point()):
                continue
            kind = constants.kind(tensor)
            solid = solid or (role is Role.SHIFTS and kind in (Kind.WEIGHT, Kind.FROZEN))
            if kind is Kind.WEIGHT or (kind is Kind.FROZEN and role is Role.CONTRACTS):
                weighs = weighs or role is Role.CONTRACTS
                continue
            factor = arguments.get("alpha" if name == "other" else "beta", 1)
            found = found or Verdict()
            values = constants.values(tensor)
            if values is not None and name in heeded:
                values = values[values != 0]
            elif values is not None and role in (Role.MASKS, Role.SCALES):
                values = _count_largest(found, values, role, find_still())
            _add(found, values, role, abs(factor) if isinstance(factor, (int, float)) else 1.0)
    if found is None:
        return _PLAIN[weighs, solid]
    found.weighs, found.solid = weighs, solid
    found.hides = found.hides or _is_narrow(arguments, constants, is_constant)
    return found


def is_solid(constants: Constants, tensor: torch.Tensor) -> bool:
    """Return whether a constant is nowhere zero, as far as its values are known."""
    if constants.kind(tensor) in (Kind.WEIGHT, Kind.FROZEN):
        return True
    values = constants.values(tensor)
    return values is not None and bool(values.all())


def find_extremes(values: torch.Tensor | None) -> tuple[float, float]:
    """Return the least and the largest of some values and zero; for unknown values (None), an assumption."""
    if values is None:
        return -_UNKNOWN, _UNKNOWN
    if not values.numel():
        return 0.0, 0.0
    least, most = (float(bound) for bound in torch.aminmax(values.abs() if values.is_complex() else values.double()))
    return (min(least, 0.0), max(most, 0.0)) if least == least else (-inf, inf)


def _is_ordinary(value: complex, role: Role) -> bool:
    """Return whether a number has no effect, which is true of most."""
    if role in (Role.WIDENS, Role.SCALES, Role.DIVIDES):
        return value == 1 or (value == 0 and role is Role.WIDENS)  # unused arguments are excluded before
    if role in (Role.SHIFTS, Role.BESIDE, Role.COMPARES):
        return abs(value) < SATURATES and role is not Role.SHIFTS
    if role is Role.EXPONENT:
        return value != 0
    if role is Role.BLENDS:
        return value in (0, 1)
    return False


def _add(found: Verdict, values: torch.Tensor | None, role: Role, factor: float) -> None:
    """Add to a verdict the effect of a constant of these values; one of unknown values (None) may hide anything."""
    if role is Role.BESIDE:
        least, most = find_extremes(values)
        found.least, found.most = min(found.least, least), max(found.most, most)
        return
    if values is None:
        found.hides = True
        return
    if not values.numel():
        return
    values = values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.stride())]
    if role is Role.WEIGHS and values.dtype is torch.bool:
        found.hides = found.hides or not bool(values.all())
        return
    values = values if values.is_complex() else values.double()
    sizes = values.abs()
    largest = float(sizes.max())
    found.hides = found.hides or largest != largest
    if role in (Role.SHIFTS, Role.BOTH):
        found.shift = max(found.shift, largest * factor)
    elif role is Role.WEIGHS:
        found.hides = found.hides or not largest < SATURATES
    elif role in (Role.FLOOR, Role.CEILING, Role.COMPARES):
        least, most = find_extremes(values)
        found.floor = max(found.floor, most if role is Role.FLOOR else -least if role is Role.CEILING else largest)
    if role in (Role.MASKS, Role.SCALES, Role.DIVIDES, Role.CONTRACTS, Role.BLENDS, Role.WIDENS, Role.BOTH):
        _add_factors(found, values, sizes, role)
    if role in (Role.BASE, Role.EXPONENT):
        found.hides = found.hides or not largest < inf or (role is Role.BASE and bool((sizes == 0).any()))
        _blank(found, values == (1 if role is Role.BASE else 0))


def _count_largest(found: Verdict, values: torch.Tensor, role: Role, still: Collection[int]) -> torch.Tensor:
    """Return the largest factors along still dimensions, after adding the effect of zeros among all to a verdict.

    Channels of a place that see the same do so by the one with the largest factor: of the cosines and sines of a
    rotary embedding, one is near zero in some channel, but never in all.
    """
    dims = [dim for dim in still if -dim <= values.ndim and values.shape[dim] > 1]
    if not dims or values.dtype is torch.bool or not values.numel():
        return values
    if role is Role.MASKS:
        _blank(found, values == 0)
    else:
        found.hides = found.hides or bool((values == 0).any())
    largest = values.abs().amax(dims, keepdim=True)
    return largest[largest != 0]


def _add_factors(found: Verdict, values: torch.Tensor, sizes: torch.Tensor, role: Role) -> None:
    """Add to a verdict the effect of factors: zeros hide, and products with small factors may be lost beside others."""
    if role is Role.BLENDS:
        found.hides = found.hides or bool(((values == 0) | (values == 1)).any())
        sizes = torch.cat([sizes.flatten(), (1 - values).abs().flatten()])
    zero = sizes == torch.inf if role is Role.DIVIDES else sizes == 0
    if role is Role.MASKS or (role is Role.DIVIDES and not (sizes == 0).any()):
        _blank(found, zero)
    else:
        found.hides = found.hides or bool(zero.any())
    rest = sizes[(sizes > 0) & (sizes < torch.inf)]
    found.hides = found.hides or len(rest) + int(zero.sum()) < sizes.numel()
    if not len(rest) or role is Role.BOTH:
        return
    low, high = log2(float(rest.min())), log2(float(rest.max()))
    low, high = (-high, -low) if role is Role.DIVIDES else (low, high)
    found.widens = found.widens or role in (Role.WIDENS, Role.BLENDS)
    found.low, found.high = found.low + low, found.high + high


def _blank(found: Verdict, where: torch.Tensor) -> None:
    """Add to a verdict the places where the result sees nothing."""
    if where.any():
        blank = where.numpy()
        found.blank = blank if found.blank is None else found.blank | blank


def _is_narrow(arguments: Mapping[str, Any], constants: Constants, is_constant: Callable[[torch.Tensor], bool]) -> bool:
    """Return whether a lower and an upper bound leave nothing between them, or nearly nothing, somewhere."""
    bounds = []
    for names in (("min", "min_val"), ("max", "max_val")):
        bound = next((arguments[name] for name in names if arguments.get(name) is not None), None)
        if isinstance(bound, torch.Tensor):
            bound = constants.values(bound) if is_constant(bound) else None
        if bound is None:
            return False
        bounds.append(torch.as_tensor(bound, device="cpu").double())
    low, high = bounds
    largest = torch.maximum(low.abs(), high.abs()).clamp(1.0)
    return bool((high - low <= largest / SWALLOWS).any())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in an argument, and in lists within it."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
