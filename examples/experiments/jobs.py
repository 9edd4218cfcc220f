"""The measurements as jobs: each knows the networks that it needs, and can run in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    other: int | None = None  # the seed of the SimpleCNN that this seed's is compared with

    @property
    def needs(self) -> tuple[Trial, ...]:
        """The networks that it needs."""
        compared = () if self.other is None else (Trial(CNN, self.other),)
        return (*(Trial(kind, self.seed) for kind in KINDS), *compared)

    def work(self, steps: int) -> float:
        """The approximate work, in milliseconds."""
        return 6000.0

    def run(
        self, data: ImageData, procedure: Procedure, have: Mapping[Trial, Trained], tick: Callable[[float], object]
    ) -> dict[str, Any]:
        """Return the measured numbers."""
        found = measures.of_seed(self.seed, self.other, have, data)
        tick(self.work(0))
        return found

    def __str__(self) -> str:
        return f"measures of seed {self.seed}"


def of_seeds(seeds: Sequence[int]) -> list[OfSeed]:
    """Return the job of each seed, which compares its network with that of the next one, the last with the first."""
    others = [*seeds[1:], seeds[0]] if len(seeds) > 1 else [None]
    return [OfSeed(seed, other) for seed, other in zip(seeds, others, strict=True)]


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
