"""The count, mean, variance and range of every channel, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import (
    as_units,
    check_mergeable,
    check_same_channels,
    check_samples,
    reduce_maps_first,
    split_pieces,
)

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MomentsResult(Summary):
    """The statistics of each channel over all its finite values; all tensors are float64 (C,).

    >>> import torch, spatialprobe as sp
    >>> swept = sp.sweep(torch.nn.Conv2d(1, 2, 3), torch.rand(5, 1, 8, 8), {"found": sp.Moments}, progress=False)
    >>> swept[""]["found"].count
    tensor([180., 180.], dtype=torch.float64)
    """

    count: torch.Tensor  # finite values
    mean: torch.Tensor
    variance: torch.Tensor  # of the population: divided by the count
    minimum: torch.Tensor
    maximum: torch.Tensor
    zero_fraction: torch.Tensor  # of the finite values, how many are exactly zero, from 0 to 1
    nonfinite: torch.Tensor  # values that are infinite or NaN, and left out of the rest

    @property
    def std(self) -> torch.Tensor:
        """The standard deviation, float64 (C,)."""
        return self.variance.sqrt()


@dataclass
class _Sums:
    """The sums of one batch, float64 (C,), around a shift near the mean to avoid cancellation."""

    count: _Floats
    first: _Floats  # sum of (x - shift)
    second: _Floats  # sum of (x - shift)^2
    zeros: _Floats
    minimum: _Floats
    maximum: _Floats


class Moments:
    """A reducer to the count, mean, variance, extremes and fraction of zeros of each channel.

    Every value is converted to float64 and summed around a shift close to the mean; batches are combined by the
    pairwise update of [Chan, Golub and LeVeque 1983] with means in double-double precision, so neither large means nor
    unequal batches lose digits. The statistics of a channel without any finite value are NaN.

    >>> import torch, spatialprobe as sp
    >>> moments = sp.Moments()
    >>> moments.update(torch.tensor([[[1.0, 0.0]], [[3.0, 4.0]]]), torch.tensor([0, 1]))
    >>> result = moments.result()
    >>> result.mean, result.variance, result.zero_fraction
    (tensor([2.], dtype=torch.float64), tensor([2.5000], dtype=torch.float64), tensor([0.2500], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self._start(0)

    def _start(self, channels: int) -> None:
        def fill(value: float) -> _Floats:
            return np.full(channels, value)

        self._count, self._squares = fill(0), fill(0)  # squares: sum of (x - mean)^2
        self._mean, self._rest = fill(0), fill(0)  # the mean is the sum of both; the second is the rounding error
        self._zeros, self._nonfinite = fill(0), fill(0)
        self._minimum, self._maximum = fill(np.inf), fill(-np.inf)

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        if not len(self._count):
            self._start(units.shape[1])
        check_same_channels(len(self._count), units.shape[1])
        if not units.numel():
            return
        shift = self._mean
        if not self._count.all():
            shift = np.where(self._count > 0, self._mean, _mean_of_first(units))
        sums = _sum(units, shift)
        if not np.isfinite(sums.second).all():
            sums = _sum_finite(units, shift)
            shift = np.nan_to_num(shift + sums.first / np.maximum(sums.count, 1))  # the first shift may be far off
            sums = _sum_finite(units, shift)
        count = np.maximum(sums.count, 1)
        mean, rest = _exact_sum(shift, sums.first / count)
        squares = np.maximum(sums.second - sums.first**2 / count, 0)
        self._nonfinite = self._nonfinite + (units.shape[0] * units.shape[2] - sums.count)
        self._zeros = self._zeros + sums.zeros
        self._widen(sums.minimum, sums.maximum)
        self._join(sums.count, mean, rest, squares)

    def merge(self, other: Moments) -> None:
        """Add the values that another reducer of the same class has seen.

        Raises:
            ArgumentError: the other is of another class, or has another number of channels.
        """
        check_mergeable(self, other)
        if not len(other._count):
            return
        if not len(self._count):
            self._start(len(other._count))
        check_same_channels(len(self._count), len(other._count))
        self._zeros = self._zeros + other._zeros
        self._nonfinite = self._nonfinite + other._nonfinite
        self._widen(other._minimum, other._maximum)
        self._join(other._count, other._mean, other._rest, other._squares)

    def result(self) -> MomentsResult:
        """Return the statistics so far."""
        none = self._count == 0
        constant = self._minimum == self._maximum  # these have an exact mean and variance
        count = np.maximum(self._count, 1)

        def known(values: _Floats) -> torch.Tensor:
            return torch.from_numpy(np.where(none, np.nan, values))

        return MomentsResult(
            count=torch.from_numpy(self._count.copy()),
            mean=known(np.where(constant, self._minimum, self._mean)),
            variance=known(np.where(constant, 0, self._squares / count)),
            minimum=known(self._minimum),
            maximum=known(self._maximum),
            zero_fraction=known(self._zeros / count),
            nonfinite=torch.from_numpy(self._nonfinite.copy()),
        )

    def _widen(self, minimum: _Floats, maximum: _Floats) -> None:
        self._minimum = np.minimum(self._minimum, minimum)
        self._maximum = np.maximum(self._maximum, maximum)

    def _join(self, count: _Floats, mean: _Floats, rest: _Floats, squares: _Floats) -> None:
        """Apply Chan's update by a part with this count, mean and sum of squared deviations."""
        total = self._count + count
        share = count / np.maximum(total, 1)
        mine, rest_of_mine = (np.where(self._count > 0, *pair) for pair in ((self._mean, mean), (self._rest, rest)))
        apart = (mean - mine) + (rest - rest_of_mine)
        self._mean, self._rest = _exact_sum(mine, rest_of_mine + apart * share)
        self._squares = self._squares + squares + apart**2 * self._count * share
        self._count = total


def _exact_sum(large: _Floats, small: _Floats) -> tuple[_Floats, _Floats]:
    """Return the rounded sum and its rounding error [Knuth, TwoSum]."""
    total = large + small
    back = total - large
    return total, (large - (total - back)) + (small - back)


def _mean_of_first(units: torch.Tensor) -> _Floats:
    """Return the mean of each channel in the first sample, as a first shift; 0 where it is not finite."""
    mean: _Floats = units[0].double().mean(dim=1).cpu().nan_to_num(0.0, 0.0, 0.0).numpy()
    return mean


def _sum(units: torch.Tensor, shift: _Floats) -> _Sums:
    """Return the sums of a batch; if any of its values is not finite, `second` is not finite, and the rest invalid."""
    n, c, length = units.shape
    here = torch.from_numpy(shift).to(units.device).unsqueeze(1)
    first, second, zeros = (torch.zeros(c, dtype=torch.float64, device=units.device) for _ in range(3))
    values = other = torch.empty(0, dtype=torch.float64, device=units.device)
    counted = _may_have_zeros(units)
    for channels, piece in split_pieces(units):
        if values.shape != piece.shape:
            values, other = (torch.empty(piece.shape, dtype=torch.float64, device=units.device) for _ in range(2))
        values.copy_(piece)
        if counted:
            zeros[channels] += _per_channel_sum(torch.eq(values, 0, out=other))
        values.sub_(here[channels])
        first[channels] += _per_channel_sum(values)
        second[channels] += _squares(values, other)
    minimum, maximum = _extremes(units)
    return _copy_to_cpu(torch.full_like(first, n * length), first, second, zeros, minimum, maximum)


def _may_have_zeros(units: torch.Tensor) -> bool:
    """Return whether to count zeros; outputs of convolutions rarely have any, which numpy finds out quickly."""
    if units.device.type != "cpu" or units.dtype not in (torch.float32, torch.float64):
        return True
    return bool((units.numpy() == 0).any())


def _squares(values: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the sums of the squares of (n, c, L) over samples and units, (c,); `other` is modified in place."""
    if reduce_maps_first(values.shape[2]):
        norms: torch.Tensor = torch.linalg.vector_norm(values, dim=2)
        return norms.square_().sum(dim=0)
    return _per_channel_sum(torch.mul(values, values, out=other))


def _sum_finite(units: torch.Tensor, shift: _Floats) -> _Sums:
    """Return the sums of the finite values of a batch; this is slower than `_sum`."""
    c = units.shape[1]
    here = torch.from_numpy(shift).to(units.device).unsqueeze(1)
    count, first, second, zeros = (torch.zeros(c, dtype=torch.float64, device=units.device) for _ in range(4))
    minimum, maximum = torch.full_like(first, torch.inf), torch.full_like(first, -torch.inf)
    for channels, piece in split_pieces(units):
        values = piece.double()
        finite = torch.isfinite(values)
        shifted = torch.where(finite, values - here[channels], 0.0)
        count[channels] += _per_channel_sum(finite.double())
        first[channels] += _per_channel_sum(shifted)
        second[channels] += _per_channel_sum(shifted**2)
        zeros[channels] += _per_channel_sum((values == 0).double())
        lowest = torch.where(finite, values, torch.inf).amin(dim=(0, 2))
        highest = torch.where(finite, values, -torch.inf).amax(dim=(0, 2))
        minimum[channels] = torch.minimum(minimum[channels], lowest)
        maximum[channels] = torch.maximum(maximum[channels], highest)
    return _copy_to_cpu(count, first, second, zeros, minimum, maximum)


def _per_channel_sum(values: torch.Tensor) -> torch.Tensor:
    """Return the sums over samples and units, (n, C, L) -> (C,)."""
    return values.sum(dim=2).sum(dim=0) if reduce_maps_first(values.shape[2]) else values.sum(dim=0).sum(dim=1)


def _extremes(units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and the highest value of each channel, (C,)."""
    inner, outer = (2, 0) if reduce_maps_first(units.shape[2]) else (0, 1)
    return units.amin(dim=inner).amin(dim=outer), units.amax(dim=inner).amax(dim=outer)


def _copy_to_cpu(*sums: torch.Tensor) -> _Sums:
    """Return sums that are passed in the order of the fields, copied to the CPU in one transfer."""
    return _Sums(*torch.stack([value.double() for value in sums]).cpu().numpy())
