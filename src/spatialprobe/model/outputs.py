"""Describe the output of a layer or model leaf by leaf, for error messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

import torch

from spatialprobe.text import kind_of

_SHOWN = 12  # leaves of an output in a message
_DEEPEST = 6  # levels of nested containers that are searched
_LONGEST_KEY = 40  # characters


def describe_leaves(output: object) -> str:
    """Return the type of a nested output, with its leaves, their paths and the shapes of tensors.

    >>> describe_leaves((torch.zeros(2, 3), {"note": None}))
    "a tuple with [0] a tensor (2, 3), [1]['note'] a NoneType"
    """
    found = list(islice(_leaves(output, "", _DEEPEST), _SHOWN + 1))
    if found and not found[0][0]:
        return _kind(output)  # it is a leaf itself
    described = [f"{path} {_kind(leaf)}" for path, leaf in found[:_SHOWN]]
    more = ["..."] if len(found) > _SHOWN else []
    return f"{kind_of(output)} with " + (", ".join(described + more) or "no leaves")


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a nested value with its path."""
    if isinstance(value, torch.Tensor) or depth == 0:
        yield path, value
    elif isinstance(value, Mapping):
        for key in value:
            yield from _leaves(value[key], f"{path}[{repr(key)[:_LONGEST_KEY]}]", depth - 1)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, part in zip(value._fields, value, strict=True):
            yield from _leaves(part, f"{path}.{name}", depth - 1)
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}[{index}]", depth - 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name, None), f"{path}.{field.name}", depth - 1)
    else:
        yield path, value


def _kind(leaf: object) -> str:
    if isinstance(leaf, torch.Tensor):
        return "a nested tensor" if leaf.is_nested else f"a tensor {tuple(leaf.shape)}"
    return kind_of(leaf)
