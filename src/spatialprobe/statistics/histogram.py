"""Histograms of the values of every channel."""

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
_FINEST = -1000  # the exponent of the finest bin width
_DIGITS = 24  # a bin is at least the channel's largest magnitude over 2 to this power
_MOST_BINS = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class HistogramResult(Summary):
    """The counts of the finite values of each channel; bin b holds those with edges[b] <= value < edges[b + 1].

    With bounds, the last bin includes its upper edge, as in `numpy.histogram`.

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
    """A reducer to a histogram of each channel.

    With bounds, all channels have equal bins between them. Without, the bin width of each channel is a power of two,
    and edges lie at multiples of it; it is the smallest width for which the bins hold all values, at least the largest
    magnitude / 2**24. When a value outside the bins comes, the width doubles and pairs of bins are merged, so that
    every count is exact, and the order of the values makes no difference. A channel of zeros alone gets the finest
    bins of the other channels. Values that are not finite are left out.

    Args:
        bins: the number of bins; at least 2 without bounds.
        low: the lower bound; pass both bounds or none.
        high: the upper bound.

    Raises:
        ArgumentError: there are too few or too many bins, or the bounds are not finite and in order.

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
        """Add the values of one batch, (N, C, *spatial)."""
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
            slots = self._find_slots(values, channels) if self._edges is None else self._find_slots_in_bounds(values)
            self._count(slots, torch.isfinite(values), channels)

    def merge(self, other: Histogram) -> None:
        """Add the values that another histogram with the same bins and bounds has seen.

        Raises:
            ArgumentError: the other is not a `Histogram`, or has other bins or bounds.
        """
        if not isinstance(other, Histogram) or not self._is_mergeable(other):
            raise ArgumentError(
                f"A Histogram merges only Histograms of the same bins and bounds, not {short_repr(other)}."
            )
        if not len(other._counts):
            return
        if not len(self._counts):
            self._start(len(other._counts))
        check_same_channels(len(self._counts), len(other._counts))
        if self._edges is not None:
            self._counts = self._counts + other._counts
            return
        self._widen(other._low, other._high)
        self._counts = self._counts + _rebin(other._counts, other._low, other._high, self._low, self._high)

    def _is_mergeable(self, other: Histogram) -> bool:
        mine, theirs = self._edges, other._edges
        if mine is None or theirs is None:
            return mine is theirs and self._bins == other._bins
        return np.array_equal(mine, theirs)

    def result(self) -> HistogramResult:
        """Return the histogram so far."""
        channels = len(self._counts)
        if self._edges is not None:
            edges = np.tile(self._edges, (channels, 1))
            below, counts, above = self._counts[:, 0], self._counts[:, 1:-1], self._counts[:, -1]
        else:
            exponents = _find_exponents(self._low, self._high, self._bins)
            start = _find_bins(self._low, exponents)
            known = (self._low <= self._high) & ((self._low != 0) | (self._high != 0))
            # Zeros alone fit any width: the finest of the other channels, so that channels can be drawn side by side.
            exponents[~known] = exponents[known].min() if known.any() else -int(np.log2(self._bins))
            with np.errstate(over="ignore"):  # an edge beyond the largest float64 is infinite
                edges = np.ldexp(start[:, None] + np.arange(self._bins + 1.0), exponents[:, None])
            below = above = np.zeros(channels, np.int64)
            counts = self._counts
        return HistogramResult(*(torch.from_numpy(array.copy()) for array in (counts, edges, below, above)))

    def _widen(self, low: _Floats, high: _Floats) -> None:
        """Widen the bins to hold values from `low` to `high` too."""
        low, high = np.minimum(self._low, low), np.maximum(self._high, high)
        if (low < self._low).any() or (high > self._high).any():
            self._counts = _rebin(self._counts, self._low, self._high, low, high)
            self._low, self._high = low, high

    def _find_slots(self, values: torch.Tensor, channels: slice) -> torch.Tensor:
        """Return the bins of values (n, c, L) without bounds, where widths are powers of two."""
        exponents = _find_exponents(self._low[channels], self._high[channels], self._bins)
        start = torch.from_numpy(_find_bins(self._low[channels], exponents)).to(values.device)
        scale = torch.from_numpy(np.ldexp(1.0, -exponents)).to(values.device)
        scaled = values * scale[:, None]
        # A negative value whose product underflows to zero belongs to the bin below zero.
        bins = scaled.floor() - ((scaled == 0) & (values < 0)).double()
        return (bins - start[:, None]).nan_to_num(0, 0, 0).long()

    def _find_slots_in_bounds(self, values: torch.Tensor) -> torch.Tensor:
        """Return the slots of values (n, c, L) with bounds: 0 is below them, the last one above."""
        edges = torch.from_numpy(self._edges).to(values.device)
        return torch.bucketize(values.contiguous(), edges, right=True) - (values == edges[-1]).long()

    def _count(self, slots: torch.Tensor, finite: torch.Tensor, channels: slice) -> None:
        counts = self._counts[channels]
        own = torch.arange(counts.shape[0], device=slots.device)[:, None] * counts.shape[1]
        found = (slots + own)[finite]
        counts += torch.bincount(found, minlength=counts.size).cpu().numpy().reshape(counts.shape)


def _finite_range(units: torch.Tensor) -> tuple[_Floats, _Floats]:
    """Return the lowest and the highest finite value of each channel; inf and -inf if there is none."""
    flat = (0, 2)
    low, high = units.amin(dim=flat).double().cpu(), units.amax(dim=flat).double().cpu()
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        finite = torch.isfinite(units)
        low = torch.where(finite, units, torch.inf).amin(dim=flat).double().cpu()
        high = torch.where(finite, units, -torch.inf).amax(dim=flat).double().cpu()
    return low.numpy(), high.numpy()


def _find_exponents(low: _Floats, high: _Floats, bins: int) -> _Ints:
    """Return for each channel the smallest e such that bins of width 2^e, at its multiples, cover `low` to `high`.

    A wider range never has a smaller exponent, so the final width does not depend on the order of the values.
    """
    seen = low <= high
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 0.0)
    largest = np.maximum(-low, high)
    exponents = np.where(largest > 0, np.frexp(largest)[1] - _DIGITS, _FINEST).astype(np.int64)
    span = high / bins - low / bins
    exponents = np.maximum(exponents, np.where(span > 0, np.frexp(span)[1] - 2, _FINEST))
    exponents = np.maximum(exponents, _FINEST)
    while (narrow := _find_bins(high, exponents) - _find_bins(low, exponents) >= bins).any():
        exponents = exponents + narrow
    return exponents


def _find_bins(values: _Floats, exponents: _Ints) -> _Ints:
    """Return the index of the bin of width 2^e that contains each value; bin 0 begins at zero."""
    scaled = np.ldexp(np.where(np.isfinite(values), values, 0.0), -exponents)
    bins: _Ints = (np.floor(scaled) - ((scaled == 0) & (values < 0))).astype(np.int64)
    return bins


def _rebin(counts: _Ints, low: _Floats, high: _Floats, new_low: _Floats, new_high: _Floats) -> _Ints:
    """Return counts in the bins for `low` to `high`, moved to the bins for a wider range."""
    bins = counts.shape[1]
    old, new = _find_exponents(low, high, bins), _find_exponents(new_low, new_high, bins)
    where = (_find_bins(low, old)[:, None] + np.arange(bins)) >> np.minimum(new - old, 63)[:, None]
    where -= _find_bins(new_low, new)[:, None]
    made = np.zeros_like(counts)
    row, column = np.nonzero(counts)
    np.add.at(made, (row, where[row, column]), counts[row, column])
    return made
