"""How often the values of every channel fall where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import as_int, as_range, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import as_units, check_same_channels, check_samples, split_pieces

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_FINEST = -1000  # the exponent of the finest bin width; a channel of zeros alone needs none finer
_DIGITS = 24  # a bin is at least the channel's largest magnitude over 2 to this power
_MOST_BINS = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class HistogramResult(Summary):
    """Counts of the finite values of each channel; bin b holds those with edges[b] <= value < edges[b + 1].

    With bounds the last bin holds the upper one too, as in `numpy.histogram`.

    >>> import torch, spatialprobe as sp
    >>> swept = sp.sweep(torch.nn.Conv2d(1, 2, 3), torch.rand(5, 1, 8, 8), {"found": sp.Histogram}, progress=False)
    >>> swept[""]["found"].counts.shape, int(swept[""]["found"].counts.sum())
    (torch.Size([2, 64]), 360)
    """

    counts: torch.Tensor  # int64 (C, bins)
    edges: torch.Tensor  # float64 (C, bins + 1), in the activation's unit
    below: torch.Tensor  # int64 (C,): values under the lower bound; 0 without bounds
    above: torch.Tensor  # int64 (C,): values over the upper bound; 0 without bounds


class Histogram:
    """Reduces to a histogram of each channel.

    With bounds, all channels have equal bins between them. Without, each channel's bins are as wide as a power of
    two and lie at multiples of it; the width is the smallest for which the bins hold all values, at least the largest
    magnitude / 2**24. As values come it doubles, and pairs of bins become one, so that nothing is ever counted into a
    bin where it does not belong, and the order of the values makes no difference. A channel of zeros alone has the
    finest bins of the others. Values that are not finite are left out.

    Args:
        bins: how many; at least 2 without bounds.
        low: the lower bound; both bounds, or none.
        high: the upper bound.

    Raises:
        ArgumentError: there are too few bins, or the bounds are not finite and in order.

    >>> import torch, spatialprobe as sp
    >>> histogram = sp.Histogram(bins=4)
    >>> histogram.update(torch.tensor([[0.0], [1.0], [1.5], [7.0]]), torch.arange(4))
    >>> histogram.result().counts, histogram.result().edges
    (tensor([[3, 0, 0, 1]]), tensor([[0., 2., 4., 6., 8.]], dtype=torch.float64))
    """

    def __init__(self, bins: int = 64, low: float | None = None, high: float | None = None) -> None:
        if (low is None) != (high is None):
            raise ArgumentError(
                f"Histogram takes both bounds or none, not low={short_repr(low)}, high={short_repr(high)}."
            )
        self._bins = as_int(bins, "bins", least=2 if low is None else 1)
        if self._bins > _MOST_BINS:
            raise ArgumentError(f"bins must be at most {_MOST_BINS:,}, not {bins:,}.")
        ends = None if low is None else as_range((low, high), "Histogram's bounds")
        self._edges = None if ends is None else np.linspace(*ends, self._bins + 1)
        self._start(0)

    def _start(self, channels: int) -> None:
        slots = self._bins + (0 if self._edges is None else 2)  # with bounds: below, the bins, above
        self._counts: _Ints = np.zeros((channels, slots), np.int64)
        self._low: _Floats = np.full(channels, np.inf)
        self._high: _Floats = np.full(channels, -np.inf)

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Take the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        if not len(self._counts):
            self._start(units.shape[1])
        check_same_channels(len(self._counts), units.shape[1])
        if not units.numel():
            return
        if self._edges is None:
            self._widen(*_finite_range(units))
        for channels, piece in split_pieces(units):
            values = piece.double()
            slots = self._own_slots(values, channels) if self._edges is None else self._given_slots(values)
            self._count(slots, torch.isfinite(values), channels)

    def merge(self, other: Histogram) -> None:
        """Take in what another with the same bins and bounds has seen.

        Raises:
            ArgumentError: it has others.
        """
        if not isinstance(other, Histogram) or not self._alike(other):
            raise ArgumentError(f"A Histogram takes in others of the same bins and bounds, not {short_repr(other)}.")
        if not len(other._counts):
            return
        if not len(self._counts):
            self._start(len(other._counts))
        check_same_channels(len(self._counts), len(other._counts))
        if self._edges is not None:
            self._counts = self._counts + other._counts
            return
        self._widen(other._low, other._high)
        self._counts = self._counts + _rebinned(other._counts, other._low, other._high, self._low, self._high)

    def _alike(self, other: Histogram) -> bool:
        mine, theirs = self._edges, other._edges
        if mine is None or theirs is None:
            return mine is theirs and self._bins == other._bins
        return np.array_equal(mine, theirs)

    def result(self) -> HistogramResult:
        """The histogram so far."""
        channels = len(self._counts)
        if self._edges is not None:
            edges = np.tile(self._edges, (channels, 1))
            below, counts, above = self._counts[:, 0], self._counts[:, 1:-1], self._counts[:, -1]
        else:
            exponents = _exponents(self._low, self._high, self._bins)
            start = _bin_of(self._low, exponents)
            known = (self._low <= self._high) & ((self._low != 0) | (self._high != 0))
            # Zeros alone fit in any width: in the finest of the others, so that they can be drawn side by side.
            exponents[~known] = exponents[known].min() if known.any() else -int(np.log2(self._bins))
            with np.errstate(over="ignore"):  # an edge beyond the largest float64 is infinite
                edges = np.ldexp(start[:, None] + np.arange(self._bins + 1.0), exponents[:, None])
            below = above = np.zeros(channels, np.int64)
            counts = self._counts
        return HistogramResult(*(torch.from_numpy(array.copy()) for array in (counts, edges, below, above)))

    def _widen(self, low: _Floats, high: _Floats) -> None:
        """Make the bins hold these values too."""
        low, high = np.minimum(self._low, low), np.maximum(self._high, high)
        if (low < self._low).any() or (high > self._high).any():
            self._counts = _rebinned(self._counts, self._low, self._high, low, high)
            self._low, self._high = low, high

    def _own_slots(self, values: torch.Tensor, channels: slice) -> torch.Tensor:
        """The bins of values (n, c, L) that are multiples of a power of two wide."""
        exponents = _exponents(self._low[channels], self._high[channels], self._bins)
        start = torch.from_numpy(_bin_of(self._low[channels], exponents)).to(values.device)
        scale = torch.from_numpy(np.ldexp(1.0, -exponents)).to(values.device)
        scaled = values * scale[:, None]
        # A product that vanishes has lost its sign.
        bins = scaled.floor() - ((scaled == 0) & (values < 0)).double()
        return (bins - start[:, None]).nan_to_num(0, 0, 0).long()

    def _given_slots(self, values: torch.Tensor) -> torch.Tensor:
        """The slots of values (n, c, L) among the given bounds: 0 is below, the last one above."""
        edges = torch.from_numpy(self._edges).to(values.device)
        return torch.bucketize(values.contiguous(), edges, right=True) - (values == edges[-1]).long()

    def _count(self, slots: torch.Tensor, finite: torch.Tensor, channels: slice) -> None:
        counts = self._counts[channels]
        own = torch.arange(counts.shape[0], device=slots.device)[:, None] * counts.shape[1]
        found = (slots + own)[finite]
        counts += torch.bincount(found, minlength=counts.size).cpu().numpy().reshape(counts.shape)


def _finite_range(units: torch.Tensor) -> tuple[_Floats, _Floats]:
    """The lowest and highest finite value of each channel; inf and -inf where there is none."""
    flat = (0, 2)
    low, high = units.amin(dim=flat).double().cpu(), units.amax(dim=flat).double().cpu()
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        finite = torch.isfinite(units)
        low = torch.where(finite, units, torch.inf).amin(dim=flat).double().cpu()
        high = torch.where(finite, units, -torch.inf).amax(dim=flat).double().cpu()
    return low.numpy(), high.numpy()


def _exponents(low: _Floats, high: _Floats, bins: int) -> _Ints:
    """For each channel the smallest e such that bins of width 2^e, at its multiples, hold all from low to high.

    A wider range never has a smaller one, which makes the final width independent of the order of the values.
    """
    seen = low <= high
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 0.0)
    largest = np.maximum(-low, high)
    exponents = np.where(largest > 0, np.frexp(largest)[1] - _DIGITS, _FINEST).astype(np.int64)
    span = high / bins - low / bins
    exponents = np.maximum(exponents, np.where(span > 0, np.frexp(span)[1] - 2, _FINEST))
    exponents = np.maximum(exponents, _FINEST)
    while (narrow := _bin_of(high, exponents) - _bin_of(low, exponents) >= bins).any():
        exponents = exponents + narrow
    return exponents


def _bin_of(values: _Floats, exponents: _Ints) -> _Ints:
    """The number of the bin of width 2^e that each value lies in, counted from zero."""
    scaled = np.ldexp(np.where(np.isfinite(values), values, 0.0), -exponents)
    bins: _Ints = (np.floor(scaled) - ((scaled == 0) & (values < 0))).astype(np.int64)
    return bins


def _rebinned(counts: _Ints, low: _Floats, high: _Floats, new_low: _Floats, new_high: _Floats) -> _Ints:
    """Counts of values between low and high in the bins for a wider range."""
    bins = counts.shape[1]
    old, new = _exponents(low, high, bins), _exponents(new_low, new_high, bins)
    where = (_bin_of(low, old)[:, None] + np.arange(bins)) >> np.minimum(new - old, 63)[:, None]
    where -= _bin_of(new_low, new)[:, None]
    made = np.zeros_like(counts)
    row, column = np.nonzero(counts)
    np.add.at(made, (row, where[row, column]), counts[row, column])
    return made
