"""The first samples of the data, on which the few extra forward passes of a checkup run."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch

from spatialprobe.model.batch import tensors_of

MOST = 16  # samples: enough to tell chance from a fault, few enough to cost little beside the data


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples, in the form that the model takes."""

    inputs: Any  # a tensor (N, ...), a list of images, a mapping of arguments, or the batch for `forward=`
    count: int

    def first(self, count: int) -> Samples:
        """Return the first `count` of them; all where they cannot be taken apart.

        >>> Samples({"x": torch.zeros(4, 3), "scale": 2.0}, 4).first(2).inputs["x"].shape
        torch.Size([2, 3])
        """
        if count >= self.count:
            return self
        taken = _take(self.inputs, self.count, count)
        return self if taken is self.inputs else Samples(taken, count)

    @property
    def of_several_sizes(self) -> bool:
        """Whether they are images of different sizes, which a model must pad or scale to run them at once."""
        return isinstance(self.inputs, list) and len({one.shape for one in tensors_of(self.inputs)}) > 1

    @property
    def images(self) -> torch.Tensor | None:
        """The images among the inputs: the tensor (N, C, *axes) with the most axes; None if there is none."""
        several = [self.inputs] if isinstance(self.inputs, torch.Tensor) else list(tensors_of(self.inputs))
        found = [one for one in several if one.ndim > 2 and len(one) == self.count]
        return max(found, key=lambda tensor: tensor.ndim, default=None)

    def shifted(self, moved: tuple[int, ...]) -> Samples:
        """Return them with the images moved along their spatial axes; what leaves at one border enters at the other."""
        images = self.images
        if images is None:
            return self
        rolled = images.roll(moved, dims=tuple(range(2, images.ndim)))
        return replace(self, inputs=_swap(self.inputs, images, rolled))


def _take(value: Any, count: int, wanted: int) -> Any:
    """Return the first samples of a part of a batch; a part that has no axis of so many samples is returned itself."""
    if isinstance(value, torch.Tensor):
        return value[:wanted] if value.ndim and len(value) == count else value
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        if len(value) == count and isinstance(value, list):
            return value[:wanted]
        taken = [_take(one, count, wanted) for one in value]
        return type(value)(taken) if any(a is not b for a, b in zip(taken, value, strict=True)) else value
    return _each(value, lambda one: _take(one, count, wanted))


def _swap(value: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """Return a part of a batch with one tensor replaced by another."""
    if value is old:
        return new
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(_swap(one, old, new) for one in value)
    return _each(value, lambda one: _swap(one, old, new))


def _each(value: Any, change: Any) -> Any:
    """Return a mapping or dataclass with a change of each entry; itself if nothing changes, or it is neither."""
    if isinstance(value, Mapping):
        made = {key: change(one) for key, one in value.items()}
        return made if any(made[key] is not one for key, one in value.items()) else value
    if is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: change(getattr(value, one.name)) for one in fields(value) if hasattr(value, one.name)}
        if all(getattr(value, name) is one for name, one in changed.items()):
            return value
        twin = copy(value)
        for name, one in changed.items():
            object.__setattr__(twin, name, one)
        return twin
    return value
