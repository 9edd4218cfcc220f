"""What a user asks of a field trace: inputs as shapes or examples, axes, and modules to ignore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.activations.select import model_name
from spatialprobe.activations.weights import dtype_of, unlike_weights
from spatialprobe.errors import ArgumentError

Ignored: TypeAlias = Iterable[type[nn.Module] | str]


@dataclass(frozen=True)
class Question:
    """What was asked, checked."""

    arguments: tuple[Any, ...]
    input: int
    axes: Sequence[int] | None
    unit_axes: Sequence[int] | None
    ignore: tuple[type[nn.Module] | str, ...]

    def ignores(self, module: nn.Module) -> bool:
        """Whether this module's output counts as a constant gate."""
        return any(
            kind in (base.__name__ for base in type(module).__mro__)
            if isinstance(kind, str)
            else isinstance(module, kind)
            for kind in self.ignore
        )

    def tensor_in(self, arguments: tuple[Any, ...]) -> torch.Tensor:
        """The one tensor that the chosen input holds, among arguments of this form."""
        if not 0 <= self.input < len(arguments):
            raise ArgumentError(f"There is no input {self.input}: inputs holds {len(arguments)}, counted from 0.")
        found = [leaf for leaf in tree_leaves(arguments[self.input]) if isinstance(leaf, torch.Tensor)]
        if len(found) != 1:
            raise ArgumentError(f"Input {self.input} must hold one tensor, and holds {len(found)}.")
        return found[0]

    def failed(self, model: nn.Module, error: Exception) -> str:
        """What to say when the model raised an error on these inputs."""
        leaves = tree_leaves(self.arguments)
        shapes = ", ".join(str(tuple(leaf.shape)) if isinstance(leaf, torch.Tensor) else repr(leaf) for leaf in leaves)
        return (
            f"{model_name(model)} raised {type(error).__name__} on an input of {shapes}: {error}\nGive the shape that "
            "the model takes, batch included, or a tuple with one for each input; or an example of real values."
            + unlike_weights(model, self.arguments)
        )


def arguments_of(inputs: Any, model: nn.Module) -> tuple[Any, ...]:
    """The model's positional arguments, with meta tensors where only shapes were given."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,)
    if not isinstance(inputs, (tuple, list)) or not inputs:
        kind = type(inputs).__name__
        raise ArgumentError(
            "inputs must be a shape such as (1, 3, 224, 224), a tensor, or a tuple of these, not "
            + (f"an empty {kind}." if isinstance(inputs, (tuple, list)) else f"a {kind}.")
        )
    if _is_shape(inputs):
        return (_from_shape(inputs, model),)
    return tuple(_from_shape(one, model) if _is_shape(one) else one for one in inputs)


def _is_shape(value: Any) -> bool:
    """Whether these are sizes, to be checked, rather than inputs of the model."""
    return isinstance(value, (tuple, list)) and all(isinstance(size, Real) for size in value)


def _from_shape(shape: Sequence[int], model: nn.Module) -> torch.Tensor:
    if not all(isinstance(size, Integral) for size in shape):
        raise ArgumentError(f"The sizes of a shape are whole numbers, not {tuple(shape)}.")
    if any(size < 1 for size in shape):
        raise ArgumentError(f"An input of shape {tuple(shape)} holds nothing: every size must be at least 1.")
    return torch.empty(tuple(shape), device="meta", dtype=dtype_of(model))


def types_and_names(ignore: Ignored) -> tuple[type[nn.Module] | str, ...]:
    """The kinds of modules to ignore, checked; one alone is as good as a sequence of one."""
    given = (ignore,) if isinstance(ignore, (str, type)) else tuple(ignore)
    for kind in given:
        if not isinstance(kind, str) and not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ArgumentError(f"ignore takes module types or class names, not {kind!r}.")
    return given


def checked_axes(ndim: int, axes: Sequence[int] | None, called: str, fewest: int = 1) -> list[int]:
    """Which dimensions are meant: all after batch and channel if none are named."""
    chosen = list(range(2, ndim)) if axes is None else [axis % ndim for axis in axes if -ndim <= axis < ndim]
    if len(chosen) < fewest or (axes is not None and len(set(chosen)) != len(axes)):
        if axes is not None:
            raise ArgumentError(f"A tensor of {ndim} dimensions has no axes {tuple(axes)}: name others with {called}=.")
        raise ArgumentError(
            f"A tensor of {ndim} dimensions has no spatial axes after batch and channel: give the whole shape, such as "
            f"(1, 3, 224, 224), or name the axes that it has with {called}=."
        )
    return chosen


def check_batch(images: object) -> None:
    """That these are images of any number of axes.

    Raises:
        ArgumentError: they are not.
    """
    if not isinstance(images, torch.Tensor) or images.ndim < 3 or not len(images):
        raise ArgumentError("images must be a tensor (N, C, *spatial) with at least one image.")
