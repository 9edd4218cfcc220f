"""Where a sweep's batches come from: a tensor, a data set, a loader or any other iterable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from spatialprobe.errors import ArgumentError, StorageError, SweepError
from spatialprobe.model.samples import first_entry
from spatialprobe.statistics.identity import describe
from spatialprobe.statistics.loading import (
    Inputs,
    OwnLoader,
    checksums,
    collate,
    collate_inputs,
    is_plain_loader,
    located,
)
from spatialprobe.statistics.terms import hash_value
from spatialprobe.storage.checksum import fingerprint
from spatialprobe.text import format_count, kind_of

Data: TypeAlias = "torch.Tensor | Dataset[Any] | Iterable[Any]"
_PROBED = 32  # samples of a data set that stand for all when it is to be recognised
_COMPARED = 8  # the same, when processes compare theirs


@dataclass(frozen=True)
class Batch:
    """Some samples, as the model takes them."""

    number: int  # within this process's share, counted from 0
    inputs: torch.Tensor  # (N, ...)
    samples: torch.Tensor  # int64 (N,): positions in the data
    row: int  # of its first sample, where the samples are written one after the other

    def __str__(self) -> str:
        numbers = self.samples.tolist()
        which = f"sample {numbers[0]}" if len(numbers) == 1 else f"samples {min(numbers)} to {max(numbers)}"
        return f"batch {self.number} ({which})"


@dataclass(frozen=True)
class Progress:
    """How far a share has been swept."""

    samples: int = 0
    batches: int = 0
    trail: str = ""  # of a stream: a checksum of all batches so far


class Source(Protocol):
    """What batches are taken from, one process's share of it."""

    count: int | None  # samples in this share; None where nobody knows
    rows: int | None  # samples in all shares; None where they come as a stream
    first: int  # the row of the share's first sample

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        """The batches that come after those done, each with how far the share is swept when it is done."""

    def identity(self) -> object:
        """What tells this data from other data, as plain values."""

    def terms(self) -> dict[str, str]:
        """Return what tells it from other processes' data, in words; what cannot be known is `UNKNOWN`."""


@dataclass(frozen=True)
class Workload:
    """How samples become batches, and which of them are this process's."""

    batch_size: int
    workers: int
    pinned: bool
    rank: int
    ranks: int
    aligned: bool = False  # whether shares begin at multiples of the batch size
    checked: bool = False  # whether the data must be recognised later, by checkpoint or store


def source_of(data: Data, load: Workload) -> Source:
    """The process's share of the data.

    Raises:
        ArgumentError: the data is empty, or of no known kind.
    """
    if isinstance(data, torch.Tensor) and data.ndim < 1:
        raise ArgumentError("the data is a tensor without axes: samples lie along its first.")
    if isinstance(data, torch.Tensor) or (isinstance(data, Dataset) and not isinstance(data, IterableDataset)):
        if not isinstance(data, Sized):
            raise ArgumentError(f"{type(data).__name__} has no length: a data set needs __len__ and __getitem__.")
        if not len(data):
            raise ArgumentError("the data is empty: there is nothing to sweep.")
        unit = load.batch_size if load.aligned else 1
        first, last = share(len(data), load.rank, load.ranks, unit)
        return _Indexed(data, first, last, load)
    if isinstance(data, IterableDataset):
        data = OwnLoader(data, load.batch_size, num_workers=load.workers, collate_fn=collate_inputs)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping, np.ndarray)):
        raise ArgumentError(
            f"the data is {kind_of(data)}: give a data set, a tensor with samples along its first axis "
            "(torch.from_numpy makes one of an array), or an iterable of batches such as a DataLoader."
        )
    return _Stream(data, load)


def share(count: int, rank: int, ranks: int, unit: int = 1) -> tuple[int, int]:
    """The samples from first to before last that one of several processes takes, in whole units but for the end.

    >>> [share(10, rank, 3) for rank in range(3)]
    [(0, 4), (4, 7), (7, 10)]
    >>> [share(10, rank, 3, unit=4) for rank in range(3)]
    [(0, 4), (4, 8), (8, 10)]
    """
    each, more = divmod(-(-count // unit), ranks)
    first = rank * each + min(rank, more)
    last = first + each + (rank < more)
    return min(first * unit, count), min(last * unit, count)


class _Indexed:
    """A share of a tensor or of a map-style data set."""

    def __init__(self, data: Any, first: int, last: int, load: Workload) -> None:
        self.count: int | None = last - first
        self.rows: int | None = len(data)
        self._data = data
        self.first, self._last = first, last
        self._load = load

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        start, number = self.first + done.samples, done.batches
        for inputs in self._inputs(start):
            samples = torch.arange(start, start + len(inputs), device="cpu")
            start, number = start + len(inputs), number + 1
            yield Batch(number - 1, inputs, samples, start - len(inputs)), Progress(start - self.first, number)

    def _inputs(self, start: int) -> Iterator[torch.Tensor]:
        size = self._load.batch_size
        if isinstance(self._data, torch.Tensor):
            for first in range(start, self._last, size):
                yield self._data[first : min(first + size, self._last)]
        elif start < self._last:
            yield from OwnLoader(
                Inputs(self._data),
                size,
                sampler=range(start, self._last),
                num_workers=self._load.workers,
                collate_fn=collate,
                pin_memory=self._load.pinned,
            )

    def identity(self) -> object:
        if isinstance(self._data, torch.Tensor):
            return describe(self._data)
        length = len(self._data)
        if isinstance(self._data, TensorDataset):
            return ["TensorDataset", length, describe(self._data.tensors[0])]
        inputs = Inputs(self._data)
        probed = _spread(length, _PROBED)
        known = [describe(inputs[i][1]) for i in probed]
        if describe(inputs[probed[0]][1]) != known[0]:
            raise ArgumentError(
                f"sample {probed[0]} of the data set is another each time it is read, so a sweep that is interrupted "
                "cannot continue to the same result. Leave out its random augmentation, or checkpoint= and store=."
            )
        return [type(self._data).__qualname__, length, known]

    def terms(self) -> dict[str, str]:
        kind, length = type(self._data).__qualname__, len(self._data)
        known = {"its type": kind, "its length": str(length)}
        if isinstance(self._data, torch.Tensor):
            return known | {"its values": hash_value(describe(self._data))}
        return known | {
            f"sample {i}": found for i, found in checksums(self._data, _spread(length, _COMPARED), self._load.workers)
        }


class _Stream:
    """An iterable that makes its own batches."""

    def __init__(self, data: Iterable[Any], load: Workload) -> None:
        self.count: int | None = None
        self.rows: int | None = None
        self.first = 0
        self._load = load
        # With several processes only a distributed sampler makes sure that all mean the same by a position.
        self._located = is_plain_loader(data) and (
            load.ranks == 1 or isinstance(cast("DataLoader[Any]", data).sampler, DistributedSampler)
        )
        self._data: Iterable[Any] = located(cast("DataLoader[Any]", data)) if self._located else data
        if isinstance(data, DataLoader) and isinstance(data.dataset, Sized) and data.batch_size is not None:
            self.count = len(data.sampler) if isinstance(data.sampler, Sized) else None

    def batches(self, done: Progress) -> Iterator[tuple[Batch, Progress]]:
        progress = Progress()
        for item in self._data:
            where, item = item if self._located else (None, item)
            inputs = _first_tensor(item)
            if not len(inputs):
                continue
            batch = Batch(
                progress.batches, inputs, self._samples(where, progress.samples, len(inputs)), progress.samples
            )
            progress = self._after(batch, progress)
            if progress.batches > done.batches:
                yield batch, progress
            elif progress.batches == done.batches and progress != done:
                raise StorageError(
                    f"the first {done.batches} batches are not those of the checkpoint: this is other data, or the "
                    "same in another order (a loader that shuffles?). Give the data of the checkpoint, the data set "
                    "itself, or another checkpoint= path."
                )
        if progress.batches < done.batches:
            raise StorageError(
                f"the data ended after {progress.batches} batches, and the checkpoint speaks of {done.batches}: this "
                "is other data. Give the data of the checkpoint, or another checkpoint= path."
            )

    def _samples(self, where: torch.Tensor | None, start: int, count: int) -> torch.Tensor:
        if where is not None:
            if len(where) != count:
                raise ArgumentError(
                    f"the loader's collate_fn made {format_count(count, 'sample')} of {len(where)}: their positions "
                    "are unknown."
                )
            return where
        # the ranks' streams are taken as interleaved, so that no two samples have one number
        return (start + torch.arange(count, device="cpu")) * self._load.ranks + self._load.rank

    def _after(self, batch: Batch, progress: Progress) -> Progress:
        trail = progress.trail
        if self._load.checked:
            seen = repr((trail, fingerprint(batch.inputs), batch.samples.tolist()))
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
    """Return so many positions from the first to the last, or all."""
    return sorted({round(i * (length - 1) / (count - 1)) for i in range(count)})


def _first_tensor(item: Any) -> torch.Tensor:
    """What the model takes of one item of an iterable."""
    inputs = first_entry(item)
    if isinstance(inputs, torch.Tensor) and inputs.ndim:
        return inputs
    kind = "a tensor without axes" if isinstance(inputs, torch.Tensor) else kind_of(inputs)
    raise SweepError(
        f"The data gave {kind}: an iterable must give batches, each a tensor with samples along its first axis, or a "
        "tuple whose first entry is one."
    )
