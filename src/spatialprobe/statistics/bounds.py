"""The share of values at the bounds of a nonlinearity, per channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import as_units, check_mergeable, check_same_channels, check_samples

NEAR = 1e-3  # of the distance between the bounds: there the slope of a sigmoid is below 0.001, of a tanh below 0.004


@dataclass(frozen=True, eq=False, repr=False)
class BoundsResult(Summary):
    """How many values of each channel lie at a bound.

    >>> import torch
    >>> bounds = Bounds(0.0, 1.0)
    >>> bounds.update(torch.tensor([[0.0, 0.5], [1.0, 0.5]]), torch.tensor([0, 1]))
    >>> bounds.result().share
    tensor([1., 0.], dtype=torch.float64)
    """

    count: torch.Tensor  # int64 (C,): values
    at_bound: torch.Tensor  # int64 (C,): values at the lower or the upper bound

    @property
    def share(self) -> torch.Tensor:
        """The share of values at a bound, float64 (C,)."""
        return self.at_bound / self.count.double().clamp(min=1)


class Bounds:
    """A reducer to the number of values at, or very near, the bounds of a nonlinearity.

    Args:
        low: the lower bound; None if values there are no sign of saturation, as the zeros of a ReLU are none.
        high: the upper bound, or None.

    >>> from spatialprobe.testing import check_reducer
    >>> check_reducer(lambda: Bounds(-1.0, 1.0))
    """

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        self._low, self._high = low, high
        self._count = torch.zeros(0, dtype=torch.int64, device="cpu")
        self._at_bound = torch.zeros(0, dtype=torch.int64, device="cpu")

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        near = NEAR * (abs(self._high or 0.0) + abs(self._low or 0.0))
        at_bound = torch.zeros_like(units, dtype=torch.bool)
        if self._low is not None:
            at_bound |= units <= self._low + near
        if self._high is not None:
            at_bound |= units >= self._high - near
        counts = at_bound.sum(dim=(0, 2)).cpu()
        self._add(torch.full_like(counts, units.shape[0] * units.shape[2]), counts)

    def merge(self, other: Bounds) -> None:
        """Add the values that another reducer of the same class has seen.

        Raises:
            ArgumentError: the other is of another class, or has another number of channels.
        """
        check_mergeable(self, other)
        if len(other._count):
            self._add(other._count, other._at_bound)

    def result(self) -> BoundsResult:
        """Return the counts so far."""
        return BoundsResult(self._count.clone(), self._at_bound.clone())

    def _add(self, count: torch.Tensor, at_bound: torch.Tensor) -> None:
        if not len(self._count):
            self._count, self._at_bound = torch.zeros_like(count), torch.zeros_like(at_bound)
        check_same_channels(len(self._count), len(count))
        self._count, self._at_bound = self._count + count, self._at_bound + at_bound
