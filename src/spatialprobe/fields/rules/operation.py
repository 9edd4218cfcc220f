"""One call of an operator, as its rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.taps import Ints


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator with its arguments and its results, and what each tensor among them sees of the input.

    Arguments go by the names of the operator's schema: `operation["stride"]`.

    >>> from spatialprobe.fields import rules
    >>> def halved(operation):  # the rule of an operator half(image, factor): every factor-th row
    ...     outputs = operation.shape[2]
    ...     return operation.reach("image").sliced(2, start=0, step=operation["factor"], outputs=outputs)
    >>> rules.register("mine::half", halved)
    """

    name: str  # "aten::convolution"
    arguments: dict[str, Any]
    results: tuple[torch.Tensor, ...]  # the tensors returned; their values mean nothing
    reach_of: Callable[[torch.Tensor], Reach]
    values_of: Callable[[torch.Tensor], Ints | None]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def __contains__(self, argument: str) -> bool:
        return self.arguments.get(argument) is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return tuple(self.results[0].shape)

    def reach(self, argument: str) -> Reach:
        """What each element of a tensor argument sees."""
        return self.reach_of(self.arguments[argument])

    def reaches(self, *arguments: str) -> list[Reach]:
        """What the tensors among these arguments see, or among all of them, in order; lists taken apart."""
        chosen = [self.arguments[name] for name in arguments] if arguments else self.arguments.values()
        return [self.reach_of(tensor) for tensor in _tensors(chosen)]

    def values(self, argument: str) -> Ints | None:
        """The values of a whole-number tensor argument that does not depend on the input; None if nobody knows them."""
        return self.values_of(self.arguments[argument])

    def with_all_of(self, reach: Reach, *arguments: str) -> Reach:
        """A reach, and in each of its elements all that these arguments see, where they are not constants."""
        others = [other.everything(reach.shape) for other in self.reaches(*arguments) if not other.is_constant]
        return union([reach, *others], reach.shape) if others else reach


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def per_axis(value: Sequence[int] | int | None, axes: int, default: Sequence[int] | int = 1) -> list[int]:
    """An argument that is given once or once for each spatial axis, or left out, as one number for each."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        value = default
    given = [value] if isinstance(value, int) else list(value)
    return given * axes if len(given) == 1 else given
