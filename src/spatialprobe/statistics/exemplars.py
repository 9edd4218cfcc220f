"""Exemplars: the top-activating samples of every channel, and the positions of their strongest units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import as_int, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.statistics.summary import Summary
from spatialprobe.statistics.units import as_units, check_same_channels, check_samples
from spatialprobe.text import format_count

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_EMPTY = np.iinfo(np.int64).max  # the sample of an empty place, which sorts after all others
_GATHERED = 1 << 20  # values copied at once when positions are looked up


@dataclass(frozen=True, eq=False, repr=False)
class ExemplarsResult(Summary):
    """The top-activating samples of each channel, the strongest first, in k columns, or fewer if there were fewer.

    Samples without any finite value of a channel are left out; if a channel has fewer samples than others for that
    reason, its last places hold the value NaN, and -1 for sample and position.

    >>> import torch, spatialprobe as sp
    >>> swept = sp.sweep(torch.nn.Conv2d(1, 2, 3), torch.rand(5, 1, 8, 8), {"found": sp.Exemplars}, progress=False)
    >>> swept[""]["found"].samples.shape, swept[""]["found"].layer
    (torch.Size([2, 5]), '')
    """

    values: torch.Tensor  # float64 (C, k): of the sample's strongest unit
    samples: torch.Tensor  # int64 (C, k): positions in the data
    positions: torch.Tensor  # int64 (C, k, axes): of the unit in the map, (y, x) for a two-dimensional convolution
    map_size: tuple[int, ...] | None = field(
        default=None, repr=False
    )  # units along each axis of the maps; None if maps differed in size
    several_runs: bool = field(default=False, repr=False)  # of the layer on a sample; positions do not say of which run


@dataclass(frozen=True)
class _Places:
    """Places for samples with their strongest units, a row for each channel; an empty place has the value -inf."""

    values: _Floats  # (R, M)
    samples: _Ints  # (R, M)
    positions: _Ints  # (R, M, axes)

    @staticmethod
    def empty(rows: int, columns: int, axes: int) -> _Places:
        """Return empty places."""
        samples = np.full((rows, columns), _EMPTY)
        return _Places(np.full((rows, columns), -np.inf), samples, np.zeros((rows, columns, axes), np.int64))

    def __getitem__(self, rows: _Ints) -> _Places:
        return _Places(self.values[rows], self.samples[rows], self.positions[rows])

    def reorder(self, order: npt.NDArray[np.intp]) -> _Places:
        """Return the places with each row in its own order (R, M)."""
        row = np.arange(len(order))[:, None]
        return _Places(self.values[row, order], self.samples[row, order], self.positions[row, order])

    def concatenate(self, other: _Places) -> _Places:
        """Return the places of both, concatenated row by row."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Places(*(np.concatenate(pair, axis=1) for pair in pairs))


class Exemplars:
    """A reducer to the k top-activating samples of each channel.

    Each sample counts once, with its strongest unit of the channel. Samples are ordered by value, then by their
    position in the data, then by the unit's position in row-major order. Values that are not finite are left out.

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
        self._k = as_int(k, "k of Exemplars", least=1)
        self._start(0, 0)

    def _start(self, channels: int, axes: int) -> None:
        self._places = _Places.empty(channels, 0, axes)  # in order; columns are added as samples come, up to k
        # Candidates for places, sorted in when enough have accumulated: channels (E,) and entries (E, 1).
        self._waiting: list[tuple[_Ints, _Places]] = []
        self._map_size: tuple[int, ...] | None = None  # of the first maps
        self._sizes_differ = False
        self._rows = 0  # of all activations; more than there are samples where a layer ran several times
        self._last_sample = -1  # the largest number of a sample

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_places": self._merge_waiting(), "_waiting": []}  # does not change the reducer itself

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        shape = tuple(activation.shape[2:])
        if not len(self._places.values):
            self._start(units.shape[1], len(shape))
        check_same_channels(len(self._places.values), units.shape[1])
        if len(shape) != self._places.positions.shape[2]:
            raise ArgumentError(
                f"maps of {format_count(len(shape), 'axis')} after maps of {self._places.positions.shape[2]}."
            )
        self._note_size(shape)
        self._rows += len(samples)
        numbers = samples.cpu().numpy()
        self._last_sample = int(numbers.max(initial=self._last_sample))
        if not units.numel():
            return
        strongest = units.amax(dim=2).double().cpu().numpy()
        if not np.isfinite(strongest.max()):  # the maximum of NaN and others is NaN
            units = torch.where(torch.isfinite(units), units, -torch.inf)
            strongest = units.amax(dim=2).double().cpu().numpy()
        rows, channels = self._candidates(strongest, numbers)
        if len(rows):
            positions = np.zeros((len(rows), len(shape)), np.int64)
            if units.shape[2] > 1:
                for axis, at in enumerate(np.unravel_index(_first_of_strongest(units, rows, channels), shape)):
                    positions[:, axis] = at
            found = strongest[rows, channels] + 0.0  # no -0
            self._waiting.append((channels, _Places(found[:, None], numbers[rows, None], positions[:, None])))
            if sum(len(waiting) for waiting, _ in self._waiting) > self._k * units.shape[1] // 2:
                self._sort_in()

    def merge(self, other: Exemplars) -> None:
        """Add the samples that another reducer with the same k has seen.

        Raises:
            ArgumentError: the other is not an `Exemplars`, or has another k.
        """
        if not isinstance(other, Exemplars) or other._k != self._k:
            raise ArgumentError(f"Exemplars of k={self._k} merge only Exemplars of that k, not {short_repr(other)}.")
        self._sort_in()
        theirs = other._merge_waiting()
        if not len(theirs.values):
            return
        channels, _, axes = theirs.positions.shape
        if not len(self._places.values):
            self._start(channels, axes)
        check_same_channels(len(self._places.values), channels)
        self._sizes_differ |= other._sizes_differ
        self._note_size(other._map_size)
        self._rows += other._rows
        self._last_sample = max(self._last_sample, other._last_sample)
        self._places = _insert(self._places, self._k, np.arange(channels), theirs)

    def result(self) -> ExemplarsResult:
        """Return the exemplars so far."""
        self._sort_in()
        places, empty = self._places, self._places.samples == _EMPTY
        return ExemplarsResult(
            values=torch.from_numpy(np.where(empty, np.nan, places.values)),
            samples=torch.from_numpy(np.where(empty, -1, places.samples)),
            positions=torch.from_numpy(np.where(empty[..., None], -1, places.positions)),
            map_size=None if self._sizes_differ else self._map_size,
            several_runs=self._rows > self._last_sample + 1,
        )

    def _note_size(self, size: tuple[int, ...] | None) -> None:
        """Record the size of the maps, and whether sizes differ."""
        self._sizes_differ |= None not in (size, self._map_size) and size != self._map_size
        self._map_size = self._map_size or size

    def _candidates(self, strongest: _Floats, samples: _Ints) -> tuple[_Ints, _Ints]:
        """Return the rows and channels of the entries (N, C) that may rank before the last place of their channel.

        Only value and sample are compared, so the sample in the last place, seen again, may get an earlier position.
        """
        full = self._places.values.shape[1] == self._k
        last = self._places.values[:, -1] if full else np.full(strongest.shape[1], -np.inf)
        entering = strongest >= last
        if len(samples) > self._k and np.count_nonzero(entering) > self._k * strongest.shape[1]:
            entering &= strongest >= np.partition(strongest, -self._k, axis=0)[-self._k]
        rows, channels = np.divmod(np.flatnonzero(entering), strongest.shape[1])
        found = strongest[rows, channels]
        better = found > last[channels]
        if full:
            better |= (samples[rows] <= self._places.samples[channels, -1]) & (found > -np.inf)
        return rows[better], channels[better]

    def _sort_in(self) -> None:
        """Move the waiting entries to their places.

        The new places are complete before they replace the old ones. If an exception occurs in between, entries that
        still wait although they have places get the same ones again.
        """
        self._places = self._merge_waiting()
        self._waiting = []

    def _merge_waiting(self) -> _Places:
        """Return the places with all waiting entries sorted in."""
        if not self._waiting:
            return self._places
        channels = np.concatenate([channels for channels, _ in self._waiting])
        parts = zip(*(vars(entries).values() for _, entries in self._waiting), strict=True)
        order = np.argsort(channels, kind="stable")
        rows = _group_by_channel(channels[order], *(np.concatenate(part)[order, 0] for part in parts))
        return _insert(self._places, self._k, *rows)


def _insert(held: _Places, k: int, channels: _Ints, new: _Places) -> _Places:
    """Return at most k places for each channel, with new entries of some channels sorted in."""
    best = _rank(held[channels].concatenate(new))
    columns = min(k, int((best.samples != _EMPTY).sum(axis=1).max(initial=0)))
    more = max(0, columns - held.values.shape[1])
    made = held.concatenate(_Places.empty(len(held.values), more, new.positions.shape[2]))  # a copy
    columns = min(made.values.shape[1], best.values.shape[1])
    for kept, found in zip(vars(made).values(), vars(best).values(), strict=True):
        kept[channels, :columns] = found[:, :columns]
    return made


def _group_by_channel(channels: _Ints, values: _Floats, samples: _Ints, positions: _Ints) -> tuple[_Ints, _Places]:
    """Return the channels that have entries, and places with a row for each; `channels` must be in ascending order."""
    touched, first, row, count = np.unique(channels, return_index=True, return_inverse=True, return_counts=True)
    made = _Places.empty(len(touched), int(count.max()), positions.shape[1])
    column = np.arange(len(channels)) - first[row]
    for places, entries in zip(vars(made).values(), (values, samples, positions), strict=True):
        places[row, column] = entries
    return touched, made


def _rank(places: _Places) -> _Places:
    """Return each row ordered by value, then sample, then position; only the first place of each sample stays."""
    axes = np.moveaxis(places.positions, 2, 0)[::-1]
    ordered = places.reorder(np.lexsort((*axes, places.samples, -places.values), axis=-1))
    by_sample = np.argsort(ordered.samples, axis=1, kind="stable")
    sorted_samples = np.take_along_axis(ordered.samples, by_sample, axis=1)
    again = (sorted_samples[:, 1:] == sorted_samples[:, :-1]) & (sorted_samples[:, 1:] != _EMPTY)
    if not again.any():
        return ordered
    row, column = np.nonzero(again)
    ordered.samples[row, by_sample[row, column + 1]] = _EMPTY
    ordered.values[row, by_sample[row, column + 1]] = -np.inf
    return ordered.reorder(np.argsort(ordered.samples == _EMPTY, axis=1, kind="stable"))


def _first_of_strongest(units: torch.Tensor, rows: _Ints, channels: _Ints) -> _Ints:
    """Return the first unit with the highest value in each of the selected maps of the units (N, C, L)."""
    step = max(1, _GATHERED // units.shape[2])
    n, c = (torch.from_numpy(index).to(units.device) for index in (rows, channels))
    found = [units[n[i : i + step], c[i : i + step]].argmax(dim=1) for i in range(0, len(rows), step)]
    first: _Ints = torch.cat(found).cpu().numpy()
    return first
