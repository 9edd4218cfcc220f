"""One sampled step of a training: the reducers of its layers' values and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from spatialprobe.activations.records import Activation
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.reducer import Factory, Reducer

GRADIENT = ".gradient"  # after the name of a reducer: what it makes of the gradients


class StepBatch(Batch):
    """The batch of one training step."""

    def __str__(self) -> str:
        return f"step {self.number}"

    def without_values(self) -> StepBatch:
        """Return the batch with tensors that have shapes, but no values."""
        return replace(self, inputs=tree_map_only(torch.Tensor, _without_values, self.inputs))


@dataclass(eq=False)
class Step:
    """What is known of one sampled step."""

    number: int
    values: dict[str, dict[str, Reducer]] = field(default_factory=dict)  # layer -> name -> reducer, as the layers ran
    gradients: dict[str, dict[str, Reducer]] = field(default_factory=dict)
    maps: Mapping[str, tuple[Activation, ...]] = field(default_factory=dict)  # of a fixed batch

    def reducers(self) -> Iterator[tuple[str, str, Reducer]]:
        """Yield layer, name and reducer; of gradients under the reducer's name with `GRADIENT`."""
        for layer, mine in self.values.items():
            for name, reducer in mine.items():
                yield layer, name, reducer
            for name, reducer in self.gradients.get(layer, {}).items():
                yield layer, name + GRADIENT, reducer

    def compact(self, factories: Mapping[str, Factory]) -> None:
        """Replace each reducer by a new one that has merged it, without what only further updates of a batch need."""
        for found in (self.values, self.gradients):
            for mine in found.values():
                for name, reducer in mine.items():
                    new: Any = factories[name]()
                    new.merge(reducer)
                    mine[name] = new

    def merge(self, other: Step) -> None:
        """Add what another process has seen at the same step."""
        for mine, theirs in ((self.values, other.values), (self.gradients, other.gradients)):
            for layer, reducers in theirs.items():
                for name, reducer in reducers.items():
                    held: Any = mine.setdefault(layer, {}).setdefault(name, reducer)
                    if held is not reducer:
                        held.merge(reducer)


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
