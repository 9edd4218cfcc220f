"""The sources of a sweep's batches: a tensor, a data set, a loader or any other iterable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from spatialprobe.arguments import make_generator
from spatialprobe.errors import ArgumentError, SpatialProbeError, StorageError, SweepError, describe_error
from spatialprobe.model.batch import BatchReader, first_tensor
from spatialprobe.statistics.identity import describe
from spatialprobe.statistics.loading import (
    Collate,
    CPUSeededLoader,
    Inputs,
    hash_samples,
    is_plain_loader,
    locate_samples,
)
from spatialprobe.statistics.terms import hash_value
from spatialprobe.storage.checksum import fingerprint
from spatialprobe.text import format_count, kind_of

Data: TypeAlias = "torch.Tensor | Dataset[Any] | Iterable[Any]"
_PROBED = 32  # samples by which a data set is identified
_COMPARED = 8  # samples that processes compare with one another


@dataclass(frozen=True)
class Batch:
    """A batch of samples, in the form that the model takes."""

    number: int  # within this process's share, counted from 0
    inputs: Any  # a tensor (N, ...), a list of images, or a mapping of arguments; the whole batch for `forward=`
    samples: torch.Tensor  # int64 (N,): positions in the data
    row: int  # of its first sample in a store, which holds the samples in sequence

    def __str__(self) -> str:
        numbers = self.samples.tolist()
        which = f"sample {numbers[0]}" if len(numbers) == 1 else f"samples {min(numbers)} to {max(numbers)}"
        return f"batch {self.number} ({which})"


@dataclass(frozen=True)
class Progress:
    """The progress of a sweep through one process's share."""

    samples: int = 0
    batches: int = 0
    trail: str = ""  # a checksum of all batches of a stream so far


class Source(Protocol):
    """One process's share of the data, which yields batches."""

    count: int | None  # samples in this share; None if unknown
    rows: int | None  # samples in all shares; None for a stream
    first: int  # the row of the share's first sample

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        """Yield the batches that follow `done`, each with the progress once it is swept."""

    def identity(self) -> object:
        """Return plain values that identify this data."""

    def terms(self) -> dict[str, str]:
        """Return a description to be compared with that of other processes' data; `UNKNOWN` for what is not known."""


@dataclass(frozen=True)
class Workload:
    """The settings by which samples become batches, and are shared among processes."""

    batch_size: int
    workers: int
    pinned: bool
    rank: int
    ranks: int
    reader: BatchReader  # what the model takes of a batch
    aligned: bool = False  # whether shares begin at multiples of the batch size
    checked: bool = False  # whether a checkpoint or store must recognize the data later
    least: int = 1  # samples of an indexed batch: a shorter last one joins the batch before
    seed: int | None = None  # of the order in which indexed samples are read; None: as they are


def source_of(data: Data, load: Workload) -> Source:
    """Return the process's share of the data.

    Raises:
        ArgumentError: the data is empty, or of an unknown kind.
    """
    if isinstance(data, torch.Tensor) and data.ndim < 1:
        raise ArgumentError("the data is a tensor without axes: samples lie along its first.")
    if isinstance(data, torch.Tensor) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset)):
        if not isinstance(data, Sized):
            raise ArgumentError(f"{type(data).__name__} has no length: a data set needs __len__ and __getitem__.")
        if not len(data):
            raise ArgumentError("the data is empty: there is nothing to sweep.")
        unit = load.batch_size if load.aligned else 1
        first, last = share(len(data), load.rank, load.ranks, unit, load.least)
        return _Indexed(data, first, last, load)
    if isinstance(data, IterableDataset):
        data = CPUSeededLoader(
            data, load.batch_size, num_workers=load.workers, collate_fn=Collate(load.reader).of_samples
        )
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping, np.ndarray)):
        raise ArgumentError(
            f"the data is {kind_of(data)}: pass a data set, a tensor with samples along its first axis "
            "(torch.from_numpy makes one of an array), or an iterable of batches such as a DataLoader."
        )
    return _Stream(data, load)


def share(count: int, rank: int, ranks: int, unit: int = 1, least: int = 1) -> tuple[int, int]:
    """Return the first sample, and the one after the last, of one process's share.

    Shares are whole units, but the last share ends with the data: a last unit of fewer than `least` samples joins the
    unit before.

    >>> [share(10, rank, 3) for rank in range(3)]
    [(0, 4), (4, 7), (7, 10)]
    >>> [share(10, rank, 3, unit=4) for rank in range(3)]
    [(0, 4), (4, 8), (8, 10)]
    >>> [share(10, rank, 3, unit=4, least=3) for rank in range(3)]
    [(0, 4), (4, 10), (10, 10)]
    """
    units, rest = divmod(count, unit)
    units += rest >= least or (rest > 0 and not units)
    each, more = divmod(units, ranks)
    first = rank * each + min(rank, more)
    last = first + each + (rank < more)
    return (min(first * unit, count) if first < units else count), (last * unit if last < units else count)


def read_batches(source: Source, done: Progress) -> Iterator[tuple[Batch, Progress]]:
    """Yield the batches that follow `done`, each with the progress once it is swept.

    Raises:
        SweepError: the data raised an error; the message names the batch.
    """
    batches, number = source.batches(done), done.batches
    while True:
        try:
            item = next(batches, None)
        except SweepError as error:
            raise SweepError(f"{error} This was for batch {number}.") from error
        except SpatialProbeError:
            raise
        except Exception as error:
            raise SweepError(f"The data raised {describe_error(error)} at batch {number}.") from error
        if item is None:
            return
        yield item
        number = item[1].batches


class _Indexed:
    """A share of a tensor or of a map-style data set."""

    def __init__(self, data: Any, first: int, last: int, load: Workload) -> None:
        self.count: int | None = last - first
        self.rows: int | None = len(data)
        self._data = data
        self.first, self._last = first, last
        self._load = load
        self._order: torch.Tensor | None = None
        if load.seed is not None:
            self._order = torch.randperm(len(data), generator=make_generator(load.seed), device="cpu")

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        start, number = self.first + done.samples, done.batches
        for inputs in self._inputs(start):
            inputs = self._load.reader.part(inputs)
            count = self._load.reader.count(inputs)
            samples = self._positions(start, start + count)
            start, number = start + count, number + 1
            yield Batch(number - 1, inputs, samples, start - count), Progress(start - self.first, number)

    def _positions(self, first: int, last: int) -> torch.Tensor:
        """Return the positions in the data of the samples that are read from `first` up to `last`."""
        return torch.arange(first, last, device="cpu") if self._order is None else self._order[first:last]

    def _numbers(self, first: int, last: int) -> Any:
        """Return the same positions as integers."""
        return range(first, last) if self._order is None else self._order[first:last].tolist()

    def _bounds(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield the first sample, and the one after the last, of each batch from `start` on."""
        size = self._load.batch_size
        while start < self._last:
            stop = min(start + size, self._last)
            stop = stop if self._last - stop >= self._load.least else self._last
            yield start, stop
            start = stop

    def _inputs(self, start: int) -> Iterator[Any]:
        if isinstance(self._data, torch.Tensor):
            for first, last in self._bounds(start):
                if self._order is None:
                    yield self._data[first:last]
                else:
                    yield self._data[self._order[first:last].to(self._data.device)]
        elif start < self._last:
            yield from CPUSeededLoader(
                Inputs(self._data, self._load.reader),
                batch_sampler=[self._numbers(*bounds) for bounds in self._bounds(start)],
                num_workers=self._load.workers,
                collate_fn=Collate(self._load.reader),
                pin_memory=self._load.pinned,
            )

    def identity(self) -> object:
        if isinstance(self._data, torch.Tensor):
            return describe(self._data)
        length = len(self._data)
        if isinstance(self._data, TensorDataset):
            tensors = self._data.tensors if self._load.reader.whole else self._data.tensors[:1]
            return ["TensorDataset", length, *map(describe, tensors)]
        inputs = Inputs(self._data, self._load.reader)
        probed = _spread(length, _PROBED)
        known = [describe(inputs[i][1]) for i in probed]
        if describe(inputs[probed[0]][1]) != known[0]:
            raise ArgumentError(
                f"sample {probed[0]} of the data set differs each time it is read, so an interrupted sweep cannot "
                "continue to the same result. Remove its random augmentation, or leave out checkpoint= and store=."
            )
        return [type(self._data).__qualname__, length, known]

    def terms(self) -> dict[str, str]:
        kind, length = type(self._data).__qualname__, len(self._data)
        known = {"its type": kind, "its length": str(length)}
        if isinstance(self._data, torch.Tensor):
            return known | {"its values": hash_value(describe(self._data))}
        return known | {
            f"sample {i}": found
            for i, found in hash_samples(self._data, self._load.reader, _spread(length, _COMPARED), self._load.workers)
        }


class _Stream:
    """An iterable that yields its own batches."""

    def __init__(self, data: Iterable[Any], load: Workload) -> None:
        self.count: int | None = None
        self.rows: int | None = None
        self.first = 0
        self._load = load
        # With several processes, only a distributed sampler makes positions mean the same in all of them.
        self._has_positions = is_plain_loader(data) and (
            load.ranks == 1 or isinstance(cast("DataLoader[Any]", data).sampler, DistributedSampler)
        )
        self._data: Iterable[Any] = locate_samples(cast("DataLoader[Any]", data)) if self._has_positions else data
        if isinstance(data, DataLoader) and isinstance(data.dataset, Sized) and data.batch_size is not None:
            self.count = len(data.sampler) if isinstance(data.sampler, Sized) else None

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        progress = Progress()
        for item in self._data:
            where, item = item if self._has_positions else (None, item)
            inputs = self._load.reader.part(_checked(item))
            count = self._load.reader.count(inputs)
            if not count:
                continue
            batch = Batch(progress.batches, inputs, self._samples(where, progress.samples, count), progress.samples)
            progress = self._after(batch, progress)
            if progress.batches > done.batches:
                yield batch, progress
            elif progress.batches == done.batches and progress != done:
                raise StorageError(
                    f"the first {done.batches} batches are not those of the checkpoint: this is other data, or the "
                    "same data in another order (a loader that shuffles?). Pass the data of the checkpoint, the data "
                    "set itself, or another checkpoint= path."
                )
        if progress.batches < done.batches:
            raise StorageError(
                f"the data ended after {progress.batches} batches, but the checkpoint was written after "
                f"{done.batches}: this is other data. Pass the data of the checkpoint, or another checkpoint= path."
            )

    def _samples(self, where: torch.Tensor | None, start: int, count: int) -> torch.Tensor:
        if where is not None:
            if len(where) != count:
                raise ArgumentError(
                    f"the loader's collate_fn made {format_count(count, 'sample')} from {len(where)}, so their "
                    "positions are unknown. Pass iter(loader), whose samples are counted in order."
                )
            return where
        # the ranks' streams count as interleaved, so that no two samples share a position
        return (start + torch.arange(count, device="cpu")) * self._load.ranks + self._load.rank

    def _after(self, batch: Batch, progress: Progress) -> Progress:
        trail = progress.trail
        if self._load.checked:
            known = fingerprint(batch.inputs) if isinstance(batch.inputs, torch.Tensor) else describe(batch.inputs)
            seen = repr((trail, known, batch.samples.tolist()))
            trail = hashlib.sha256(seen.encode()).hexdigest()
        return Progress(progress.samples + len(batch.samples), progress.batches + 1, trail)

    def identity(self) -> object:
        return "an iterable"  # its batches are compared as they come

    def terms(self) -> dict[str, str]:
        sampler = getattr(self._data, "sampler", None)
        if not isinstance(sampler, DistributedSampler):
            return {"its type": "an iterable"}
        said = {
            name: repr(getattr(sampler, name)) for name in ("num_replicas", "shuffle", "seed", "epoch", "drop_last")
        }
        return {"its type": "a loader with a DistributedSampler", "its length": str(len(sampler.dataset)), **said}  # type: ignore[arg-type]


def _spread(length: int, count: int) -> list[int]:
    """Return `count` positions spread from the first to the last, or all of them if there are fewer."""
    return sorted({round(i * (length - 1) / (count - 1)) for i in range(count)})


def _checked(item: Any) -> Any:
    """Return one item of an iterable, or raise an error if there is no tensor with samples in it."""
    if first_tensor(item) is not None:
        return item
    first = item[0] if isinstance(item, (tuple, list)) and item else item
    kind = "a tensor without axes" if isinstance(first, torch.Tensor) else kind_of(first)
    raise SweepError(
        f"The data yielded {kind}: an iterable must yield batches, each a tensor with samples along its first axis, a "
        "tuple whose first entry is one, a list of images, or a mapping with tensors."
    )
