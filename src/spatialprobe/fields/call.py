"""One call of an operator in a pass that is followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from spatialprobe.fields.reach import Reach
from spatialprobe.fields.traits import Traits


@dataclass(slots=True)
class Call:
    """An operator, its arguments, and what those arguments see that are not constants."""

    traits: Traits
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[torch.Tensor]  # among the arguments, and in lists among them
    reaches: dict[int, Reach] = field(default_factory=dict)  # by the tensors' identity; constants have none
    unused: tuple[str, ...] = ()  # arguments on whose values the result does not depend
    of_any_values: set[int] = field(default_factory=set)  # the tensors among the unused arguments, by identity
    _named: dict[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the names of the operator's schema."""
        if self._named is None:
            self._named = {name: self.kwargs.get(name, default) for name, default in self.traits.arguments}
            self._named.update(zip(self._named, self.args, strict=False))
        return self._named

    @property
    def written(self) -> list[torch.Tensor]:
        """The tensors that the operator modifies in place."""
        return [one for name in self.traits.written for one in tensors_in((self.arguments.get(name),))]

    @property
    def asks_for_cpu(self) -> bool:
        """Whether the call requests a result on the CPU."""
        device = self.kwargs.get("device")
        return device is not None and torch.device(device).type == "cpu"

    def run(self) -> Any:
        """Return the operator's result."""
        return self.traits.operator(*self.args, **self.kwargs)

    def leave_out(self, unused: tuple[str, ...]) -> None:
        """Treat these arguments as constants: the result does not depend on them."""
        self.unused = unused
        used = {id(one) for name, value in self.arguments.items() if name not in unused for one in tensors_in((value,))}
        for tensor in tensors_in([self.arguments.get(name) for name in unused]):
            if id(tensor) not in used and self.reaches.pop(id(tensor), None) is not None:
                self.of_any_values.add(id(tensor))

    def is_constant(self, tensor: torch.Tensor) -> bool:
        """Return whether an argument does not depend on the input."""
        return id(tensor) not in self.reaches


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors among values and in the lists among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
