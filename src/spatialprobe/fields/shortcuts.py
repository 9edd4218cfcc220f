"""Results on the meta device of common operators that torch decomposes there in Python, which takes most of a pass.

Each function returns what torch would, a tensor without values of the same shape, strides and dtype; or None where a
call is out of the ordinary, and torch shall run it, and raise what errors there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload

_FLOATS = (torch.float32, torch.float64)
_aten = torch.ops.aten


def find_result(operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of an operator on meta tensors, if it is known without running it; else None."""
    shortcut = _SHORTCUTS.get(operator)
    return None if shortcut is None or kwargs else shortcut(*args)


def _batch_norm(
    values: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, ...] | None:
    of_channels = [one for one in (weight, bias) if one is not None] + [mean, var]
    if training or values.ndim < 2 or any(one is None or one.shape != values.shape[1:2] for one in of_channels):
        return None
    if not _are_plain(values, *of_channels):
        return None
    return _like(values), values.new_empty(values.shape[1]), values.new_empty(values.shape[1])


def _layer_norm(
    values: torch.Tensor,
    normalized: Sequence[int],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, ...] | None:
    weights = [one for one in (weight, bias) if one is not None]
    lead = values.shape[: values.ndim - len(normalized)]
    fits = normalized and lead and list(values.shape[len(lead) :]) == list(normalized)
    if not fits or any(list(one.shape) != list(normalized) for one in weights) or not _are_plain(values, *weights):
        return None
    if not values.is_contiguous():
        return None
    statistics = (*lead, *(1,) * len(normalized))
    return _like(values), values.new_empty(statistics), values.new_empty(statistics)


def _addmm(bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor | None:
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[0] and bias.shape == right.shape[1:]
    return left.new_empty(left.shape[0], right.shape[1]) if fits and _are_plain(left, right, bias) else None


def _elementwise(values: torch.Tensor, *numbers: Any) -> torch.Tensor | None:
    return _like(values) if _are_plain(values) else None


def _in_place(values: torch.Tensor) -> torch.Tensor | None:
    return values if _are_plain(values) else None


def _of_two(first: Any, second: Any) -> torch.Tensor | None:
    if not (isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and _are_plain(first, second)):
        return None
    alike = first.shape == second.shape and first.stride() == second.stride()
    return _like(first) if alike else None


def _like(values: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(values)


def _are_plain(*tensors: Any) -> bool:
    """Return whether tensors are all on the meta device, dense, and of one floating-point dtype."""
    dtype = tensors[0].dtype
    return dtype in _FLOATS and all(one.is_meta and one.dtype == dtype for one in tensors)


_SHORTCUTS: dict[OpOverload, Callable[..., Any]] = {
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_layer_norm.default: _layer_norm,
    _aten.addmm.default: _addmm,
    _aten.gelu.default: _elementwise,
    _aten.silu.default: _elementwise,
    _aten.silu_.default: _in_place,
    _aten.add.Tensor: _of_two,
    _aten.mul.Tensor: _of_two,
}
