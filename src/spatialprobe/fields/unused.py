"""Arguments that other arguments, numbers mostly, keep an operator from using."""

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


def unused(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Return the names of the arguments on whose values the result does not depend.

    Args:
        base: the operator's name: "addmm".
        arguments: by name.
        values_of: the values of a constant, if they are known.
    """
    find = _FINDERS.get(base)
    return find(base, arguments, values_of) if find is not None else ()


def _multiplied(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    return ("self",) if _is(arguments.get("other"), 0) else ()


def _divided(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    return ("self",) if any(_is(arguments.get("other"), value) for value in (inf, -inf)) else ()


def _added(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    if not _is(arguments.get("alpha"), 0):
        return ()
    return ("self",) if base == "rsub" else ("other",)


def _added_products(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    factors = _ADDED_PRODUCTS[base] if any(_is(arguments.get(name), 0) for name in ("alpha", "value")) else ()
    return (*factors, *(("self",) if _is(arguments.get("beta"), 0) else ()))


def _blended(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    weight = arguments.get("weight")
    return ("end",) if _is(weight, 0) else ("self",) if _is(weight, 1) else ()


def _powers(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    if _is(arguments.get("exponent"), 0):
        return ("self",)
    return ("exponent",) if _is(arguments.get("self"), 1) else ()


def _clamped(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    low, high = (arguments.get(name, arguments.get(f"{name}_val")) for name in ("min", "max"))
    crossed = isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high
    return ("self",) if crossed else ()


def _dropped(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    return ("input",) if _is(arguments.get("p"), 1) and arguments.get("train") is not False else ()


def _chosen(base: str, arguments: Mapping[str, Any], values_of: Values) -> tuple[str, ...]:
    """Of two arguments the one that a mask never takes."""
    mask = arguments.get("condition" if base == "where" else "mask")
    values = values_of(mask) if isinstance(mask, torch.Tensor) else None
    if values is None or not values.numel():
        return ()
    first, second = ("self", "other") if base == "where" else ("value", "self")
    return (second,) if bool(values.all()) else () if bool(values.any()) else (first,)


_FINDERS = {
    "mul": _multiplied,
    "xlogy": lambda base, arguments, values_of: ("other",) if _is(arguments.get("self"), 0) else (),
    "div": _divided,
    "add": _added,
    "sub": _added,
    "rsub": _added,
    **dict.fromkeys(_ADDED_PRODUCTS, _added_products),
    "lerp": _blended,
    "pow": _powers,
    "clamp": _clamped,
    "hardtanh": _clamped,
    "native_dropout": _dropped,
    "where": _chosen,
    "masked_fill": _chosen,
}

LEAVING_OUT = frozenset(_FINDERS)


def _is(argument: Any, number: float) -> bool:
    return type(argument) in (int, float, complex) and argument == number
