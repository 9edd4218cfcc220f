"""Count, mean, variance and range of every channel, exact to float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.statistics.units import as_units, inner_first, pieces, same_channels


@dataclass(frozen=True, eq=False)
class MomentsResult:
    """Statistics of each channel over all finite values that it handed on; all tensors are float64 (C,)."""

    count: torch.Tensor  # finite values
    mean: torch.Tensor
    variance: torch.Tensor  # of the population: divided by the count
    minimum: torch.Tensor
    maximum: torch.Tensor
    zero_fraction: torch.Tensor  # of the finite values, how many are exactly zero, from 0 to 1
    nonfinite: torch.Tensor  # values that are infinite or no number, and left out of the rest

    @property
    def std(self) -> torch.Tensor:
        """The standard deviation, float64 (C,)."""
        return self.variance.sqrt()


@dataclass
class _Sums:
    """What one batch adds; float64 (C,), around a shift near the mean, so that nothing cancels."""

    count: torch.Tensor
    first: torch.Tensor  # sum of (x - shift)
    second: torch.Tensor  # sum of (x - shift)^2
    zeros: torch.Tensor
    minimum: torch.Tensor
    maximum: torch.Tensor


class Moments:
    """Reduces to the count, mean, variance, extremes and share of zeros of each channel.

    Every value is taken into float64 and summed around a shift close to the mean; batches are joined by the pairwise
    update of [Chan, Golub and LeVeque 1983], so neither large means nor unequal batches lose digits. A channel
    without any finite value has NaN for its statistics.

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
        def filled(value: float) -> torch.Tensor:
            return torch.full((channels,), value, dtype=torch.float64)

        self._count, self._mean, self._squares = filled(0), filled(0), filled(0)  # squares: sum of (x - mean)^2
        self._zeros, self._nonfinite = filled(0), filled(0)
        self._minimum, self._maximum = filled(torch.inf), filled(-torch.inf)

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Take the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        if not len(self._count):
            self._start(units.shape[1])
        same_channels(len(self._count), units.shape[1])
        if not units.numel():
            return
        shift = self._mean
        if not bool((self._count > 0).all()):
            shift = torch.where(self._count > 0, self._mean, _mean_of_first(units))
        sums = _summed(units, shift)
        if not bool(torch.isfinite(sums.second).all()):
            sums = _summed_where_finite(units, shift)
            shift = (shift + sums.first / sums.count.clamp(min=1)).nan_to_num()  # the first guess may have been none
            sums = _summed_where_finite(units, shift)
        count = sums.count.clamp(min=1)
        mean = shift + sums.first / count
        squares = (sums.second - sums.first**2 / count).clamp(min=0)
        self._nonfinite += units.shape[0] * units.shape[2] - sums.count
        self._zeros += sums.zeros
        self._widen(sums.minimum, sums.maximum)
        self._join(sums.count, mean, squares)

    def merge(self, other: Moments) -> None:
        """Take in what another has seen."""
        if not len(other._count):
            return
        if not len(self._count):
            self._start(len(other._count))
        same_channels(len(self._count), len(other._count))
        self._zeros += other._zeros
        self._nonfinite += other._nonfinite
        self._widen(other._minimum, other._maximum)
        self._join(other._count, other._mean, other._squares)

    def result(self) -> MomentsResult:
        """The statistics so far."""
        none = self._count == 0
        constant = self._minimum == self._maximum  # here rounding would show

        def known(values: torch.Tensor) -> torch.Tensor:
            return values.masked_fill(none, torch.nan)

        return MomentsResult(
            count=self._count.clone(),
            mean=known(torch.where(constant, self._minimum, self._mean)),
            variance=known((self._squares / self._count.clamp(min=1)).masked_fill(constant, 0)),
            minimum=known(self._minimum),
            maximum=known(self._maximum),
            zero_fraction=known(self._zeros / self._count.clamp(min=1)),
            nonfinite=self._nonfinite.clone(),
        )

    def _widen(self, minimum: torch.Tensor, maximum: torch.Tensor) -> None:
        self._minimum = torch.minimum(self._minimum, minimum)
        self._maximum = torch.maximum(self._maximum, maximum)

    def _join(self, count: torch.Tensor, mean: torch.Tensor, squares: torch.Tensor) -> None:
        """Chan's update by a part with this count, mean and sum of squared deviations."""
        total = self._count + count
        share = count / total.clamp(min=1)
        apart = mean - self._mean
        self._mean = torch.where(self._count > 0, self._mean + apart * share, torch.where(count > 0, mean, self._mean))
        self._squares = self._squares + squares + apart**2 * self._count * share
        self._count = total


def _mean_of_first(units: torch.Tensor) -> torch.Tensor:
    """The mean of each channel in the first sample, as a first guess; 0 where it has none."""
    return units[0].double().mean(dim=1).cpu().nan_to_num(0.0, 0.0, 0.0)


def _summed(units: torch.Tensor, shift: torch.Tensor) -> _Sums:
    """The sums of a batch, right if all its values are finite; else `second` is not finite."""
    n, c, length = units.shape
    here = shift.to(units.device).unsqueeze(1)
    first, second, nonzeros = (torch.zeros(c, dtype=torch.float64, device=units.device) for _ in range(3))
    values = other = torch.empty(0, dtype=torch.float64, device=units.device)
    for channels, piece in pieces(units):
        if values.shape != piece.shape:
            values, other = (torch.empty(piece.shape, dtype=torch.float64, device=units.device) for _ in range(2))
        values.copy_(piece)
        nonzeros[channels] += _per_channel_sum(torch.ne(values, 0, out=other))
        values.sub_(here[channels])
        first[channels] += _per_channel_sum(values)
        second[channels] += _per_channel_sum(torch.mul(values, values, out=other))
    count = torch.full_like(first, n * length)
    minimum, maximum = _extremes(units)
    return _on_cpu(_Sums(count, first, second, count - nonzeros, minimum, maximum))


def _summed_where_finite(units: torch.Tensor, shift: torch.Tensor) -> _Sums:
    """The same, of the finite values alone; slower."""
    c = units.shape[1]
    here = shift.to(units.device).unsqueeze(1)
    count, first, second, zeros = (torch.zeros(c, dtype=torch.float64, device=units.device) for _ in range(4))
    minimum, maximum = torch.full_like(first, torch.inf), torch.full_like(first, -torch.inf)
    for channels, piece in pieces(units):
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
    return _on_cpu(_Sums(count, first, second, zeros, minimum, maximum))


def _per_channel_sum(values: torch.Tensor) -> torch.Tensor:
    """The sums over samples and units, (n, C, L) -> (C,)."""
    return values.sum(dim=2).sum(dim=0) if inner_first(values.shape[2]) else values.sum(dim=0).sum(dim=1)


def _extremes(units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest and the highest value of each channel, (C,)."""
    inner, outer = (2, 0) if inner_first(units.shape[2]) else (0, 1)
    return units.amin(dim=inner).amin(dim=outer), units.amax(dim=inner).amax(dim=outer)


def _on_cpu(sums: _Sums) -> _Sums:
    """All sums in one transfer."""
    stacked = torch.stack([value.double() for value in vars(sums).values()])
    return _Sums(*stacked.cpu())
