"""The steps of a pass, to find what layers see of another layer's grid without running the model again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch

from spatialprobe.fields.memory import Memory
from spatialprobe.fields.reach import Reach, constant
from spatialprobe.fields.rule_results import apply_rule, see_all
from spatialprobe.fields.rules import Operation
from spatialprobe.fields.taps import Ints
from spatialprobe.fields.traits import Traits

Run: TypeAlias = tuple[str, torch.Tensor | str]  # a layer that ended, and its output, or why it has no field


class Step(Protocol):
    """One step of a pass: tensors that depend on others."""

    def repeat(self, memory: Memory) -> None:
        """Note what its results see."""


@dataclass(frozen=True, slots=True)
class OperatorStep:
    """One operator on tensors that depend on the input."""

    traits: Traits
    arguments: dict[str, Any]
    tensors: Sequence[torch.Tensor]  # among the arguments, those on whose values the result depends
    results: tuple[torch.Tensor, ...]
    written: Sequence[torch.Tensor]
    values: dict[int, Ints | None] = field(default_factory=dict)  # of the constants that the rule has asked for

    def repeat(self, memory: Memory) -> None:
        """Note what the results see by the operator's rule; what constants hide is left out."""
        found = {id(one): memory.read(one) for one in self.tensors}
        if not any(reach.spans for reach in found.values()) and not any(one in memory for one in self.written):
            return
        operation = Operation(
            self.traits.name,
            self.arguments,
            self.results,
            lambda one: found.get(id(one)) or constant(one.shape),
            lambda one: self.values.get(id(one)),
        )
        written = {id(one): one for one in self.written}
        for tensor, reach in zip(self.results, apply_rule(self.traits, operation), strict=True):
            (memory.bind if written.pop(id(tensor), None) is None else memory.write)(tensor, reach)
        for tensor in written.values() if self.traits.rule is None else ():
            memory.write(tensor, see_all(operation, tensor.shape))


@dataclass(frozen=True, slots=True)
class FunctionStep:
    """Tensors that a function of this library has made in place of operators."""

    inputs: Sequence[torch.Tensor]
    results: Sequence[torch.Tensor]
    follow: Callable[[Sequence[Reach]], Sequence[Reach]]  # from what the inputs see to what the results see

    def repeat(self, memory: Memory) -> None:
        """Note what the results see."""
        for tensor, reach in zip(self.results, self.follow([memory.read(one) for one in self.inputs]), strict=True):
            memory.write(tensor, reach)


class Recording:
    """The steps of a pass in their order, and the layers that ended between them."""

    def __init__(self) -> None:
        self._events: list[Step | Run] = []
        self.is_whole = True  # whether the steps alone say what layers see

    def add(self, event: Step | Run) -> None:
        """Note a step, or a layer that has ended."""
        self._events.append(event)

    def follow_from(self, layer: str, seed: Callable[[torch.Tensor], Reach]) -> Iterator[tuple[str, Reach | str]]:
        """Yield what each run of each layer sees of the output of a layer that runs once.

        Args:
            layer: the layer's name.
            seed: from the layer's output to what its elements see of themselves.
        """
        memory, begun = Memory(), False
        for event in self._events:
            if not isinstance(event, tuple):
                if begun:
                    event.repeat(memory)
                continue
            name, output = event
            if name == layer and isinstance(output, torch.Tensor):
                memory.write(output, seed(output))
                begun = True
            yield name, memory.read(output) if isinstance(output, torch.Tensor) else output
