"""Loading samples of data sets: the model's input from each, and its position in the data set."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence, Sized
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, SweepError, describe_error
from spatialprobe.model.batch import BatchReader, as_mapping, first_tensor
from spatialprobe.statistics.identity import describe
from spatialprobe.statistics.terms import UNKNOWN, hash_value
from spatialprobe.text import kind_of

_MAKE_TENSORS = "For images, pass the data set a transform that returns tensors."


class Inputs(Dataset[Any]):
    """A data set reduced to what the model takes of each sample, with its position."""

    def __init__(self, dataset: Any, reader: BatchReader) -> None:
        self._dataset = dataset
        self._reader = reader

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            sample = self._dataset[index]
        except Exception as error:
            raise SweepError(f"The data set raised {describe_error(error)} at sample {index}.") from error
        return index, self._reader.part_of_sample(sample)


class _Checksums(Dataset[Any]):
    """A data set of checksums of what the model takes of each sample."""

    def __init__(self, dataset: Any, reader: BatchReader) -> None:
        self._inputs = Inputs(dataset, reader)

    def __getitem__(self, index: int) -> tuple[int, str]:
        try:
            return index, hash_value(describe(self._inputs[index][1]))
        except Exception:  # a sample that cannot be read here may be in another process's share
            return index, UNKNOWN


class _LocatedDataset(Dataset[Any]):
    """A loader's data set, which returns each sample with its position."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Any) -> tuple[int, Any]:
        return self._position(index), self._dataset[index]

    def __getitems__(self, indices: Sequence[Any]) -> list[tuple[int, Any]]:
        positions = [self._position(index) for index in indices]
        if hasattr(self._dataset, "__getitems__"):
            return list(zip(positions, self._dataset.__getitems__(indices), strict=True))
        return [(position, self._dataset[index]) for position, index in zip(positions, indices, strict=True)]

    def _position(self, index: Any) -> int:
        """Return an index that a sampler yields as a position, counted from the beginning of the data set.

        Raises:
            ArgumentError: it is not an integer.
        """
        try:
            position = operator.index(index)
        except TypeError as error:
            raise ArgumentError(
                f"The loader's sampler yields {short_repr(index)}, which is not a position in its data set. Pass "
                "iter(loader), whose samples are counted in order, or a sampler that yields integers."
            ) from error
        return position + len(self._dataset) if position < 0 and isinstance(self._dataset, Sized) else position


class _LocatedCollate:
    """A loader's `collate_fn` that also returns positions; a class, since workers must pickle it."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, pairs: list[tuple[int, Any]]) -> tuple[torch.Tensor, Any]:
        positions = torch.tensor([position for position, _ in pairs], dtype=torch.int64, device="cpu")
        return positions, self._collate([sample for _, sample in pairs])


class CPUSeededLoader(DataLoader[Any]):
    """A loader that draws its seed on the CPU, whatever torch's default device is."""

    def __iter__(self) -> Any:
        with torch.device("cpu"):
            return super().__iter__()


def is_plain_loader(data: object) -> bool:
    """Return whether `data` is a loader whose sampler yields the positions of its samples in its data set."""
    return (
        isinstance(data, DataLoader)
        and type(data).__iter__ is DataLoader.__iter__
        and data.batch_sampler is not None
        and not isinstance(data.dataset, IterableDataset)
    )


def locate_samples(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return the same loader with batches as pairs: positions in its data set, and the original batch."""
    return DataLoader(
        _LocatedDataset(loader.dataset),
        batch_sampler=loader.batch_sampler,
        num_workers=loader.num_workers,
        collate_fn=_LocatedCollate(loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


def hash_samples(dataset: Any, reader: BatchReader, positions: list[int], workers: int) -> list[tuple[int, str]]:
    """Return a checksum of some samples, `UNKNOWN` for those that cannot be read or differ each time they are read.

    They are read where the sweep reads them: by a worker, if it has any, since a data set that opens its files at the
    first access must not be accessed before workers are forked. No random numbers are consumed.
    """
    order = [positions[0], *positions]
    with torch.random.fork_rng(devices=[]):
        loader = CPUSeededLoader(
            _Checksums(dataset, reader), None, sampler=order, num_workers=min(workers, 1), generator=torch.Generator()
        )
        (_, again), *found = loader
    return found if again == found[0][1] else [(position, UNKNOWN) for position in positions]


@dataclass(frozen=True)
class Collate:
    """Makes a batch of what the model takes of some samples; a class, since workers must pickle it.

    Mappings, dataclasses and sequences are collated entry by entry. Tensors of one shape are stacked; images (C, H, W)
    of several shapes stay a list, as detectors take them, and so do entries of other kinds.
    """

    reader: BatchReader

    def __call__(self, pairs: list[tuple[int, Any]]) -> Any:
        """Return a batch of samples with their positions.

        Raises:
            SweepError: they cannot be in one batch; the message names the first that differs.
        """
        values = [value for _, value in pairs]
        first, expected = pairs[0][0], _shape(values[0])
        if isinstance(values[0], torch.Tensor) and not self.reader.is_image_list(values):
            for index, value in pairs:
                if _shape(value) != expected:
                    raise SweepError(describe_shapes(index, _shape(value), first, expected))
        return self.of_parts(values)

    def of_samples(self, samples: list[Any]) -> Any:
        """Return a batch of samples as a data set yields them."""
        return self.of_parts([self.reader.part_of_sample(sample) for sample in samples])

    def of_parts(self, values: list[Any]) -> Any:
        """Return a batch of what the model takes of each sample.

        Raises:
            SweepError: there is no tensor in it.
        """
        try:
            made = _collate(values)
        except (TypeError, RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise SweepError(
                f"Samples of type {type(values[0]).__name__} cannot be collated into a batch ({error}). {_MAKE_TENSORS}"
            ) from error
        if not isinstance(made, torch.Tensor) and first_tensor(made) is None:
            raise SweepError(
                f"A sample is {kind_of(values[0])}: it must be a tensor, or a tuple whose first entry is one, or a "
                f"mapping with tensors. {_MAKE_TENSORS}"
            )
        return made


def describe_shapes(index: int, shape: tuple[int, ...], first: int, expected: tuple[int, ...]) -> str:
    """Say that two samples of a batch have different shapes, and what to do."""
    return (
        f"Sample {index} has shape {shape}, but sample {first}, in the same batch, {expected}. Bring all samples to "
        "one shape, or pass batch_size=1."
    )


def _collate(values: list[Any]) -> Any:
    """Return samples, or an entry of each, as one batch."""
    first = values[0]
    entries = [as_mapping(value) for value in values]
    if entries[0] is not None:
        made = {key: _collate([entry[key] for entry in entries if entry is not None]) for key in entries[0]}
        return _with_entries(first, made)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_collate(list(part)) for part in zip(*values, strict=True)))
    if isinstance(first, (tuple, list)):
        return [_collate(list(part)) for part in zip(*values, strict=True)]
    if isinstance(first, (torch.Tensor, np.ndarray)) and len({_shape(value) for value in values}) > 1:
        return [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in values]
    try:
        return default_collate(values)
    except TypeError:  # None, images of PIL, annotations in classes of their own
        return list(values)


def _with_entries(sample: Any, entries: dict[str, Any]) -> Any:
    """Return a mapping or dataclass of a sample's class with the entries of a batch."""
    if isinstance(sample, dict) or not isinstance(sample, MutableMapping):
        made: Any = entries if isinstance(sample, Mapping) else copy(sample)
        for name, value in () if isinstance(sample, Mapping) else entries.items():
            object.__setattr__(made, name, value)  # of frozen dataclasses, too
        return made
    made = copy(sample)
    made.update(entries)
    return made


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
