"""The measurements as jobs: each knows the networks that it needs, and can run in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data import ImageData
from experiments import depths, measures
from experiments.trials import CNN, KINDS, Trained, Trial
from experiments.workers import Procedure


@dataclass(frozen=True)
class OfSeed:
    """The job that measures what the claims need of all networks of one seed."""

    seed: int

    @property
    def needs(self) -> tuple[Trial, ...]:
        """The networks that it needs."""
        return tuple(Trial(kind, self.seed) for kind in KINDS)

    def work(self, steps: int) -> float:
        """The approximate work, in milliseconds."""
        return 6000.0

    def run(
        self, data: ImageData, procedure: Procedure, have: Mapping[Trial, Trained], tick: Callable[[float], object]
    ) -> dict[str, Any]:
        """Return the measured numbers."""
        found = measures.of_seed(self.seed, have, data)
        tick(self.work(0))
        return found

    def __str__(self) -> str:
        return f"measures of seed {self.seed}"


@dataclass(frozen=True)
class OfDepth:
    """The job that measures the layers of one network."""

    depth: int
    seed: int

    @property
    def needs(self) -> tuple[Trial, ...]:
        """The network that it needs."""
        return (Trial(CNN, self.seed, self.depth),)

    def work(self, steps: int) -> float:
        """The approximate work, in milliseconds."""
        return 4000.0 + 1000.0 * self.depth

    def run(
        self, data: ImageData, procedure: Procedure, have: Mapping[Trial, Trained], tick: Callable[[float], object]
    ) -> dict[str, Any]:
        """Return the measured numbers."""
        found = depths.of_depth(self.depth, self.seed, have, data)
        tick(self.work(0))
        return found

    def __str__(self) -> str:
        return f"measures of depth {self.depth}, seed {self.seed}"
