"""The arguments of a field trace, checked: inputs as shapes or examples, axes, and modules to ignore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from numbers import Integral, Real
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_ints, is_iterable, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.layout import Layout
from spatialprobe.model.weights import dtype_of
from spatialprobe.text import kind_of, with_article

_MOST_ELEMENTS = 2**59  # the size in bytes still fits torch's integers
_SLIP = 0.85  # the similarity of a misspelled name; that of SEModule and SEBlock is lower
_ROOTS = nn.Module.__mro__  # the classes of every model, one of which is as close to SEModule as a misspelling

Ignored: TypeAlias = Iterable[type[nn.Module] | str]


@dataclass(frozen=True)
class Question:
    """The arguments of a field trace, checked."""

    arguments: tuple[Any, ...]
    input: int
    axes: Sequence[int] | None
    unit_axes: Sequence[int] | None
    ignore: tuple[type[nn.Module] | str, ...]
    at: At = "output"
    source_layout: Layout = "channels_first"  # of the layer in whose grid fields are, unless unit_axes says which axes

    def ignores(self, module: nn.Module) -> bool:
        """Return whether this module's output counts as a constant gate."""
        return any(_is_a(module, kind) for kind in self.ignore)

    def unmatched(self, model: nn.Module) -> list[str]:
        """Return the types to ignore of which the model has no module.

        One list of gates may be used for many models, but a name that is close to that of a class in the model is
        likely a misspelling, unless that class is in the list too.

        Raises:
            ArgumentError: a name is close to that of a class of the model's modules.
        """
        absent = [kind for kind in self.ignore if not any(_is_a(module, kind) for module in model.modules())]
        classes = {one.__name__ for module in model.modules() for one in type(module).__mro__ if one not in _ROOTS}
        classes.difference_update(kind if isinstance(kind, str) else kind.__name__ for kind in self.ignore)
        for name in absent:
            similar = get_close_matches(name, classes, n=1, cutoff=_SLIP) if isinstance(name, str) else []
            if similar:
                raise ArgumentError(f"ignore: the model has no module of type {name!r}. Did you mean {similar[0]!r}?")
        return [kind if isinstance(kind, str) else kind.__name__ for kind in absent]

    @property
    def samples(self) -> int:
        """The number of samples of the chosen input: along the first axis of a tensor; a list holds one image."""
        value = self.arguments[self.input]
        return len(value) if isinstance(value, torch.Tensor) and value.ndim else 1

    def tensor_in(self, arguments: tuple[Any, ...]) -> torch.Tensor:
        """Return the one tensor that the chosen input holds, among arguments of this structure.

        Raises:
            ArgumentError: there is no such input, it does not hold exactly one tensor, or the tensor has no pixels.
        """
        if not 0 <= self.input < len(arguments):
            raise ArgumentError(f"There is no input {self.input}: inputs holds {len(arguments)}, counted from 0.")
        found = [leaf for leaf in tree_leaves(arguments[self.input]) if isinstance(leaf, torch.Tensor)]
        if len(found) != 1:
            raise ArgumentError(
                f"Input {self.input} must hold one tensor, but holds {len(found)}. Of a list of images, pass one image."
            )
        _check_followable(found[0], self.input)
        return found[0]

    def input_axes(self, tensor: torch.Tensor, model: nn.Module) -> list[int]:
        """Return the spatial axes of the chosen input, of which this is the tensor.

        A tensor alone has a batch axis. A tensor in a list may be an image (C, H, W), as detectors take it: the model's
        convolutions show the number of spatial axes.

        Raises:
            ArgumentError: the tensor does not have the axes that were named, or its spatial axes cannot be determined.
        """
        if self.axes is not None or isinstance(self.arguments[self.input], torch.Tensor):
            return resolve_axes(tensor.ndim, self.axes, "axes")
        spatial = {len(one.kernel_size) for one in model.modules() if isinstance(one, nn.modules.conv._ConvNd)}
        if len(spatial) == 1 and tensor.ndim - next(iter(spatial)) in (1, 2):
            return list(range(tensor.ndim - next(iter(spatial)), tensor.ndim))
        kind = type(self.arguments[self.input]).__name__
        raise ArgumentError(
            f"Input {self.input} holds a tensor of {tensor.ndim} dimensions in a {kind}, and the model's convolutions "
            "do not show which of them are spatial. Name them with axes=, such as (1, 2) for an image (C, H, W)."
        )


def arguments_of(inputs: Any, model: nn.Module) -> tuple[Any, ...]:
    """Return the model's positional arguments, with meta tensors in place of shapes."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,)
    if not isinstance(inputs, (tuple, list)) or not inputs:
        empty = isinstance(inputs, (tuple, list))
        raise ArgumentError(
            "inputs must be a shape such as (1, 3, 224, 224), a tensor, or a tuple of these, not "
            + (f"an empty {type(inputs).__name__}." if empty else f"{kind_of(inputs)}.")
        )
    if _is_shape([size for size in inputs if size is not None] or [inputs]) and any(size is None for size in inputs):
        raise ArgumentError(
            f"A shape holds a number for each axis, and {short_repr(tuple(inputs))} holds None: pass any batch size, "
            "such as (1, 3, 224, 224)."
        )
    if _is_shape(inputs):
        return (_from_shape(inputs, model),)
    return tuple(_from_shape(one, model) if _is_shape(one) else one for one in inputs)


def _check_followable(tensor: torch.Tensor, number: int) -> None:
    """Check that an input has a grid of pixels.

    Raises:
        ArgumentError: it is sparse, mkldnn, nested or empty.
    """
    if tensor.layout is not torch.strided or tensor.is_nested:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.").lstrip("_")
        raise ArgumentError(
            f"Input {number} is {with_article(layout)} tensor, whose pixels cannot be followed. Pass a dense one, "
            "such as tensor.to_dense(), or its shape, and let the model convert it."
        )
    if not tensor.numel():
        raise ArgumentError(
            f"An input of shape {short_repr(tuple(tensor.shape))} holds nothing: every size must be at least 1."
        )


def _is_shape(value: Any) -> bool:
    """Return whether a value is a sequence of sizes, to be checked, rather than inputs of the model."""
    return isinstance(value, (tuple, list)) and all(isinstance(size, Real) for size in value)


def _from_shape(shape: Sequence[int], model: nn.Module) -> torch.Tensor:
    """Return a meta tensor of a shape, or raise an error if it cannot be one."""
    if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in shape):
        raise ArgumentError(f"The sizes of a shape must be integers, not {short_repr(tuple(shape))}.")
    if any(size < 1 for size in shape):
        raise ArgumentError(
            f"An input of shape {short_repr(tuple(shape))} holds nothing: every size must be at least 1."
        )
    if prod(map(int, shape)) > _MOST_ELEMENTS:
        raise ArgumentError(
            f"No tensor can have the shape {short_repr(tuple(shape))}: it would be too large for any memory."
        )
    return torch.empty(tuple(shape), device="meta", dtype=dtype_of(model))


def types_and_names(ignore: Ignored) -> tuple[type[nn.Module] | str, ...]:
    """Return the kinds of modules to ignore, checked; a single kind counts as a sequence of one."""
    several = is_iterable(ignore) and not isinstance(ignore, (str, type, nn.Module))
    kinds = tuple(ignore) if several else (ignore,)
    for kind in kinds:
        named = isinstance(kind, str) and kind.isidentifier()
        if not named and not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ArgumentError(f"ignore takes module types or class names, not {short_repr(kind)}.")
    return kinds  # type: ignore[return-value]


def _is_a(module: nn.Module, kind: type[nn.Module] | str) -> bool:
    """Return whether a module is of this type, or of a type of this name, or of a type derived from it."""
    return any(base is kind or base.__name__ == kind for base in type(module).__mro__)


def as_axes(axes: Sequence[int] | None, called: str) -> tuple[int, ...] | None:
    """Return the axes that the user named, None if there are none.

    Raises:
        ArgumentError: they are not integers.
    """
    return None if axes is None else as_ints(axes, called)


def resolve_axes(ndim: int, axes: Sequence[int] | None, called: str, fewest: int = 1) -> list[int]:
    """Return the named dimensions, counted from 0; all after batch and channel if none are named."""
    chosen = list(range(2, ndim)) if axes is None else [axis % ndim for axis in axes if -ndim <= axis < ndim]
    if len(chosen) < fewest or (axes is not None and len(set(chosen)) != len(axes)):
        if axes is not None:
            raise ArgumentError(
                f"A tensor of {ndim} dimensions has no axes {short_repr(tuple(axes))}. Name others with {called}=."
            )
        raise ArgumentError(
            f"A tensor of {ndim} dimensions has no spatial axes after batch and channel. Pass the whole shape, such as "
            f"(1, 3, 224, 224), or name the axes that it has with {called}=."
        )
    return chosen
