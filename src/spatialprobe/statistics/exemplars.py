"""The samples that excite every channel most, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.statistics.units import as_units, same_channels

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_NOBODY = np.iinfo(np.int64).max  # the sample of an empty place: behind all others
_GATHERED = 1 << 20  # values copied at once when positions are looked up


@dataclass(frozen=True, eq=False)
class ExemplarsResult:
    """The strongest samples of each channel, the strongest first, k columns or as many as there were samples.

    Samples whose values of a channel are all not finite do not enter; should a channel have fewer samples than
    others for that reason, its last places hold the value NaN, and -1 for sample and position.
    """

    values: torch.Tensor  # float64 (C, k): of the sample's strongest unit
    samples: torch.Tensor  # int64 (C, k): positions in the data
    positions: torch.Tensor  # int64 (C, k, axes): of the unit in the map, (y, x) for a convolution in two dimensions


@dataclass(frozen=True)
class _Entries:
    """Samples with their strongest unit, in no order; arrays of one length M."""

    channels: _Ints
    values: _Floats
    samples: _Ints
    positions: _Ints  # (M, axes)

    def __getitem__(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> _Entries:
        return _Entries(self.channels[chosen], self.values[chosen], self.samples[chosen], self.positions[chosen])


class Exemplars:
    """Reduces to the k samples that excite each channel most.

    Each sample enters once, with its strongest unit of the channel. The order is by value, then the lower sample,
    then the first position in row-major order. Values that are not finite are left out.

    Raises:
        ArgumentError: k is less than 1.

    >>> import torch, spatialprobe as sp
    >>> exemplars = sp.Exemplars(k=2)
    >>> exemplars.update(torch.tensor([[[1.0, 5.0]], [[7.0, 0.0]], [[2.0, 5.0]]]), torch.tensor([0, 1, 2]))
    >>> result = exemplars.result()
    >>> result.samples.tolist(), result.values.tolist(), result.positions.tolist()
    ([[1, 0]], [[7.0, 5.0]], [[[0], [1]]])
    """

    def __init__(self, k: int = 9) -> None:
        if k < 1:
            raise ArgumentError(f"Exemplars(k={k}): k must be at least 1.")
        self._k = k
        self._start(0, 0)

    def _start(self, channels: int, axes: int) -> None:
        # (C, columns): columns grow with what comes, up to k
        self._values: _Floats = np.empty((channels, 0))
        self._samples: _Ints = np.empty((channels, 0), np.int64)
        self._positions: _Ints = np.empty((channels, 0, axes), np.int64)

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Take the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        shape = tuple(activation.shape[2:])
        if not len(self._values):
            self._start(units.shape[1], len(shape))
        same_channels(len(self._values), units.shape[1])
        if not units.numel():
            return
        strongest = units.amax(dim=2).double().cpu().numpy()
        if not np.isfinite(strongest).all():
            units = torch.where(torch.isfinite(units), units, -torch.inf)
            strongest = units.amax(dim=2).double().cpu().numpy()
        numbers = samples.cpu().numpy()
        rows, channels = np.nonzero(self._may_enter(strongest, numbers))
        if not len(rows):
            return
        units_at = _first_of_strongest(units, rows, channels)
        places = np.stack(np.unravel_index(units_at, shape), axis=1) if shape else np.empty((len(rows), 0), np.int64)
        self._take(_Entries(channels, strongest[rows, channels] + 0.0, numbers[rows], places))

    def merge(self, other: Exemplars) -> None:
        """Take in what another with the same k has seen."""
        if not len(other._values):
            return
        if not len(self._values):
            self._start(*other._positions.shape[::2])
        same_channels(len(self._values), len(other._values))
        self._take(other._entries(np.arange(len(other._values))))

    def result(self) -> ExemplarsResult:
        """The exemplars so far."""
        empty = self._samples == _NOBODY
        return ExemplarsResult(
            values=torch.from_numpy(np.where(empty, np.nan, self._values)),
            samples=torch.from_numpy(np.where(empty, -1, self._samples)),
            positions=torch.from_numpy(np.where(empty[..., None], -1, self._positions)),
        )

    def _may_enter(self, strongest: _Floats, samples: _Ints) -> npt.NDArray[np.bool_]:
        """Which samples (N, C) come before the last one that has a place, as far as value and sample tell."""
        if self._values.shape[1] < self._k:
            entering = strongest > -np.inf
        else:
            last, owner = self._values[:, -1], self._samples[:, -1]
            # the owner itself may be seen again, with the same value at an earlier position
            entering = (strongest > last) | ((strongest == last) & (samples[:, None] <= owner))
            entering &= strongest > -np.inf
        if len(samples) > self._k and np.count_nonzero(entering) > self._k * strongest.shape[1]:
            entering &= strongest >= np.partition(strongest, -self._k, axis=0)[-self._k]
        return entering

    def _entries(self, channels: _Ints) -> _Entries:
        """What has a place in these channels."""
        row, column = np.nonzero(self._samples[channels] != _NOBODY)
        at = channels[row], column
        return _Entries(at[0], self._values[at], self._samples[at], self._positions[at])

    def _take(self, new: _Entries) -> None:
        """Sort new entries in among those that have a place."""
        if not len(new.channels):
            return
        if new.positions.shape[1] != self._positions.shape[2]:
            raise ArgumentError(f"maps of {new.positions.shape[1]} axes after maps of {self._positions.shape[2]}.")
        old = self._entries(np.unique(new.channels))
        both = (np.concatenate(pair) for pair in zip(vars(old).values(), vars(new).values(), strict=True))
        best = _best(_Entries(*both))
        # the best come channel by channel: the rank of each among its channel's
        rank = np.arange(len(best.channels)) - np.searchsorted(best.channels, best.channels)
        best, rank = best[rank < self._k], rank[rank < self._k]
        self._make_room(int(rank.max()) + 1)
        touched = np.unique(best.channels)
        self._samples[touched] = _NOBODY
        self._values[touched] = -np.inf
        self._values[best.channels, rank] = best.values
        self._samples[best.channels, rank] = best.samples
        self._positions[best.channels, rank] = best.positions

    def _make_room(self, columns: int) -> None:
        more = max(0, columns - self._values.shape[1])
        self._values = np.pad(self._values, ((0, 0), (0, more)), constant_values=-np.inf)
        self._samples = np.pad(self._samples, ((0, 0), (0, more)), constant_values=_NOBODY)
        self._positions = np.pad(self._positions, ((0, 0), (0, more), (0, 0)))


def _best(entries: _Entries) -> _Entries:
    """The entries in order, channel by channel, and of each sample the first."""
    places = tuple(entries.positions.T[::-1])
    ordered = entries[np.lexsort((*places, entries.samples, -entries.values, entries.channels))]
    _, first = np.unique(np.stack([ordered.channels, ordered.samples]), axis=1, return_index=True)
    return ordered[np.sort(first)]


def _first_of_strongest(units: torch.Tensor, rows: _Ints, channels: _Ints) -> _Ints:
    """The first unit that has the highest value, in each of these maps of the units (N, C, L)."""
    step = max(1, _GATHERED // units.shape[2])
    n, c = (torch.from_numpy(index).to(units.device) for index in (rows, channels))
    found = [units[n[i : i + step], c[i : i + step]].argmax(dim=1) for i in range(0, len(rows), step)]
    first: _Ints = torch.cat(found).cpu().numpy()
    return first
