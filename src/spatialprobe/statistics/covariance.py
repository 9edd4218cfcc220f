"""The covariance of the channels of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.arguments import as_int
from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import as_units, check_mergeable, check_same_channels, check_samples

_PIECE = 1 << 22  # values in one matrix product


@dataclass(frozen=True, eq=False, repr=False)
class ChannelCovarianceResult(Summary):
    """The mean of each channel and the covariance of each pair, over samples and positions.

    >>> import torch, spatialprobe as sp
    >>> conv, images = torch.nn.Conv2d(1, 2, 3), torch.rand(5, 1, 8, 8)
    >>> swept = sp.sweep(conv, images, {"found": sp.ChannelCovariance}, progress=False)
    >>> swept[""]["found"].covariance.shape
    torch.Size([2, 2])
    """

    count: int  # positions of all samples
    mean: torch.Tensor  # float64 (C,)
    covariance: torch.Tensor  # float64 (C, C), of the population: divided by the count


class ChannelCovariance:
    """A reducer to the covariance matrix of the channels.

    The channels' values at one position of one sample are one observation; observations with values that are not
    finite are left out. Sums are taken in float64 around a shift near the mean, and combined as in `Moments`. Without
    any observation, mean and covariance are NaN.

    Args:
        units: the most units of each map to take, spread evenly, for a layer with large maps, whose neighbors tell
            little that is new; by default all of them.

    >>> import torch, spatialprobe as sp
    >>> covariance = sp.ChannelCovariance()
    >>> covariance.update(torch.tensor([[0.0, 4.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    >>> covariance.result().covariance.tolist()
    [[1.0, -2.0], [-2.0, 4.0]]
    """

    def __init__(self, units: int | None = None) -> None:
        self._most = None if units is None else as_int(units, "units", least=1)
        self._start(0)

    def _start(self, channels: int) -> None:
        self._count = 0
        self._mean = torch.zeros(channels, dtype=torch.float64, device="cpu")
        # the sum of the outer products of the deviations
        self._products = torch.zeros(channels, channels, dtype=torch.float64, device="cpu")

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = _spread_units(as_units(activation), self._most)
        check_samples(samples, activation)
        if not len(self._mean):
            self._start(units.shape[1])
        check_same_channels(len(self._mean), units.shape[1])
        if not units.numel():
            return
        n, c, length = units.shape
        step = max(1, _PIECE // (c * length))
        for start in range(0, n, step):
            observations = units[start : start + step].transpose(0, 1).double().reshape(c, -1)
            finite = torch.isfinite(observations).all(dim=0)
            self._observe(observations if bool(finite.all()) else observations[:, finite])

    def merge(self, other: ChannelCovariance) -> None:
        """Add the values that another reducer of the same class has seen.

        Raises:
            ArgumentError: the other is of another class, or has another number of channels.
        """
        check_mergeable(self, other)
        if not len(other._mean):
            return
        if not len(self._mean):
            self._start(len(other._mean))
        check_same_channels(len(self._mean), len(other._mean))
        self._join(other._count, other._mean, other._products)

    def result(self) -> ChannelCovarianceResult:
        """Return the covariance so far."""
        divisor = self._count or torch.nan
        products = (self._products + self._products.T) / 2
        return ChannelCovarianceResult(self._count, self._mean * (divisor / divisor), products / divisor)

    def _observe(self, observations: torch.Tensor) -> None:
        """Add observations, float64 (C, M); M may be 0."""
        count = observations.shape[1]
        if not count:
            return
        center = observations.mean(dim=1, keepdim=True)
        deviations = observations - center
        rest = deviations.sum(dim=1)  # the rounding error of the mean
        products = deviations @ deviations.T - torch.outer(rest, rest / count)
        self._join(count, (center[:, 0] + rest / count).cpu(), products.cpu())

    def _join(self, count: int, mean: torch.Tensor, products: torch.Tensor) -> None:
        if not count:
            return
        total = self._count + count
        apart = mean - self._mean
        self._mean = self._mean + apart * (count / total) if self._count else mean.clone()
        self._products = self._products + products + torch.outer(apart, apart) * (self._count * (count / total))
        self._count = total


def _spread_units(units: torch.Tensor, most: int | None) -> torch.Tensor:
    """Return at most so many units of each map (N, C, L), a view; an odd step, so that they lie in many columns."""
    length = units.shape[2]
    if most is None or length <= most:
        return units
    step = -(-length // most) | 1
    return units[:, :, step // 2 :: step]
