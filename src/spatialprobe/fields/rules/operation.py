"""One call of an operator, in the form that its rule reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
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
    results: tuple[torch.Tensor, ...]  # the tensors returned, of which only shapes and dtypes count
    reach_of: Callable[[torch.Tensor], Reach]
    values_of: Callable[[torch.Tensor], Ints | None]
    fixed_of: Callable[[torch.Tensor], npt.NDArray[Any] | None] = lambda tensor: None
    heeded: set[str] = field(default_factory=set)  # arguments whose zeros the rule has taken into account

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def __contains__(self, argument: str) -> bool:
        return self.arguments.get(argument) is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first result."""
        return tuple(self.results[0].shape)

    def reach(self, argument: str) -> Reach:
        """Return what each element of a tensor argument sees."""
        return self.reach_of(self.arguments[argument])

    def reaches(self, *arguments: str) -> list[Reach]:
        """Return what the tensors in these arguments see, also in lists, in order; by default in all arguments."""
        chosen = [self.arguments[name] for name in arguments] if arguments else self.arguments.values()
        return [self.reach_of(tensor) for tensor in _tensors(chosen)]

    def values(self, argument: str) -> Ints | None:
        """Return the values of an integer tensor that does not depend on the input; None if they are not known."""
        return self.values_of(self.arguments[argument])

    def fixed(self, argument: str) -> npt.NDArray[Any] | None:
        """Return the values of a constant that is no layer's weight, such as a fixed kernel; None if not known.

        A rule that lets the result see nothing through its zeros adds the argument to `heeded`.
        """
        return self.fixed_of(self.arguments[argument])

    def with_all_of(self, reach: Reach, *arguments: str) -> Reach:
        """Return a reach in which each element also sees all that these arguments see."""
        others = [other.everything(reach.shape) for other in self.reaches(*arguments) if not other.is_constant]
        return union([reach, *others], reach.shape) if others else reach


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among values and in the lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def per_axis(value: Sequence[int] | int | None, axes: int, default: Sequence[int] | int = 1) -> list[int]:
    """Return one number for each spatial axis, of an argument that is one number, a list of them, or left out."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        value = default
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * axes if len(numbers) == 1 else numbers
