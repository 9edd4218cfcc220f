"""Arguments on which a result does not depend because of other arguments, mostly numbers such as a factor 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import torch

_ADDED_PRODUCTS = {
    "addmm": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "addr": ("vec1", "vec2"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
    "addcmul": ("tensor1", "tensor2"),
    "addcdiv": ("tensor1", "tensor2"),
}

Values = Callable[[torch.Tensor], "torch.Tensor | None"]


def find_unused(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the names of the arguments on whose values the result does not depend.

    Args:
        base: the operator's name: "addmm".
        arguments: by name.
        values_of: the values of a constant, if they are known.
    """
    find = _FINDERS.get(base)
    return find(base, arguments, values_of) if find is not None else ()


def _find_multiplied(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return what is multiplied by 0."""
    return ("self",) if _is_number(arguments.get("other"), 0) else ()


def _find_divided(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return what is divided by infinity."""
    return ("self",) if any(_is_number(arguments.get("other"), value) for value in (inf, -inf)) else ()


def _find_added(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return what is added with a factor 0."""
    if not _is_number(arguments.get("alpha"), 0):
        return ()
    return ("self",) if base == "rsub" else ("other",)


def _find_added_products(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the products, or the sum's other term, that have a factor 0."""
    factors = _ADDED_PRODUCTS[base] if any(_is_number(arguments.get(name), 0) for name in ("alpha", "value")) else ()
    return (*factors, *(("self",) if _is_number(arguments.get("beta"), 0) else ()))


def _find_blended(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the end of an interpolation that has weight 0."""
    weight = arguments.get("weight")
    return ("end",) if _is_number(weight, 0) else ("self",) if _is_number(weight, 1) else ()


def _find_powers(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the base of an exponent 0, or the exponent of a base 1."""
    if _is_number(arguments.get("exponent"), 0):
        return ("self",)
    return ("exponent",) if _is_number(arguments.get("self"), 1) else ()


def _find_clamped(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return what is clamped between bounds that leave one value."""
    low, high = (arguments.get(name, arguments.get(f"{name}_val")) for name in ("min", "max"))
    crossed = isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high
    return ("self",) if crossed else ()


def _find_dropped(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return what is dropped with probability 1."""
    return ("input",) if _is_number(arguments.get("p"), 1) and arguments.get("train") is not False else ()


def _find_masked(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the one of two arguments that a mask never selects."""
    mask = arguments.get("condition" if base == "where" else "mask")
    values = values_of(mask) if isinstance(mask, torch.Tensor) else None
    if values is None or not values.numel():
        return ()
    first, second = ("self", "other") if base == "where" else ("value", "self")
    return (second,) if bool(values.all()) else () if bool(values.any()) else (first,)


_FINDERS = {
    "mul": _find_multiplied,
    "xlogy": lambda base, arguments, values_of: ("other",) if _is_number(arguments.get("self"), 0) else (),
    "div": _find_divided,
    "add": _find_added,
    "sub": _find_added,
    "rsub": _find_added,
    **dict.fromkeys(_ADDED_PRODUCTS, _find_added_products),
    "lerp": _find_blended,
    "pow": _find_powers,
    "clamp": _find_clamped,
    "hardtanh": _find_clamped,
    "native_dropout": _find_dropped,
    "where": _find_masked,
    "masked_fill": _find_masked,
}

LEAVING_OUT = frozenset(_FINDERS)


def _is_number(argument: Any, number: float) -> bool:
    """Return whether an argument is a Python number of this value."""
    return type(argument) in (int, float, complex) and argument == number
