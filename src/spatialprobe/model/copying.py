"""A copy of a model, or why there can be none."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.model.select import all_layers, check_model, model_name
from spatialprobe.model.settings import set_gradients
from spatialprobe.model.undo import undo_block

_WHOLE = (type, ModuleType, FunctionType, BuiltinFunctionType, str, bytes)  # what holds nothing to be copied


def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model, with its hooks.

    Tensors that are part of a graph, such as weights that `torch.nn.utils.weight_norm` computes, or what a forward has
    kept, are copied as plain values, as torch does not copy them.

    Raises:
        ArgumentError: the model is no module, has weights that are not initialized, or holds something that cannot be
            copied; the message names it.

    >>> model = nn.Linear(1, 1)
    >>> model.kept = model(torch.ones(1))
    >>> copy_model(model).kept.requires_grad
    False
    """
    check_model(model)
    if any(map(is_lazy, model.parameters())):
        raise ArgumentError(f"Some weights of the {model_name(model)} are not made yet: run it once on an input.")
    # Held by the list, since the memo knows them by their ids.
    graphs = [tensor for tensor in _find_tensors(model) if not tensor.is_leaf]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in graphs}
    try:
        with undo_block() as undo:
            set_gradients(undo, torch.is_grad_enabled())  # which torch turns off while it copies a tensor
            return copy.deepcopy(model, memo)
    except Exception as error:
        raise ArgumentError(
            f"The {model_name(model)} cannot be copied: deepcopy raised {describe_error(error)}, "
            f"{_find_culprit(model)}. Remove that from the model until it is copied, or add a __deepcopy__ method to "
            "its class."
        ) from error


def _find_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield every tensor that a model holds, in attributes, containers and objects of any depth."""
    waiting: list[Any] = [model]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _WHOLE):
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)) or type(value).__module__ == "collections":
            waiting += list(value) if isinstance(value, Iterable) else []
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            waiting.append(attributes)


def _find_culprit(model: nn.Module) -> str:
    """Return which attribute of which module cannot be copied, as far as one alone is to blame."""
    for layer in all_layers(model):
        for name, value in vars(layer.module).items():
            if isinstance(value, nn.Module) or name == "_modules":
                continue
            memo = {id(tensor): tensor.detach() for tensor in _find_tensors(layer.module) if not tensor.is_leaf}
            try:
                copy.deepcopy(value, memo)
            except Exception:
                return f"because of the attribute {name!r} of {layer.name or 'the model itself'!r}"
    return "because of something in it"
