"""Find and replace tensors inside a layer's output: in containers, dataclasses and plain objects."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from spatialprobe.activations.memory import contains

_DEPTH = 4  # of objects within objects
_OPAQUE = (type, ModuleType, FunctionType, MethodType, nn.Module, str, bytes, int, float, complex, type(None))


def tensors_in(output: Any, depth: int = _DEPTH) -> Iterator[torch.Tensor]:
    """Yield the tensors in a tensor, container, dataclass or object, in order; repeated ones are repeated."""
    for leaf in tree_leaves(output):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif depth:
            for value in _attributes(leaf).values():
                yield from tensors_in(value, depth - 1)


def exchange(output: Any, old: torch.Tensor, new: torch.Tensor, depth: int = _DEPTH) -> Any:
    """Return the output with one tensor in it replaced by another; objects in it are modified in place."""

    def replace_leaf(leaf: Any) -> Any:
        if leaf is old:
            return new
        if depth and not isinstance(leaf, torch.Tensor):
            for name, value in _attributes(leaf).items():
                changed = exchange(value, old, new, depth - 1)
                if changed is not value and any(tensor is old for tensor in tensors_in(value, depth - 1)):
                    object.__setattr__(leaf, name, changed)  # of frozen dataclasses, too
        return leaf

    return tree_map(replace_leaf, output)


def source_of(picked: torch.Tensor, output: Any) -> torch.Tensor | None:
    """Return the tensor of the output that `picked` is, or is a part of; None if it has memory of its own."""
    within = None
    for tensor in tensors_in(output):
        if tensor is picked:
            return tensor
        if within is None and contains(tensor, picked):
            within = tensor
    return within


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object by name; none for types that hold no outputs."""
    if isinstance(value, _OPAQUE):
        return {}
    held = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                held.setdefault(name, getattr(value, name))
    return held
