"""Loading samples of data sets: the model's input from each, and its position in the data set."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, SweepError, describe_error
from spatialprobe.model.samples import first_entry
from spatialprobe.statistics.identity import describe
from spatialprobe.statistics.terms import UNKNOWN, hash_value
from spatialprobe.text import kind_of

_MAKE_TENSORS = "For images, pass the data set a transform that returns tensors."


class Inputs(Dataset[Any]):
    """A data set reduced to the model's input, with the position of each sample."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            sample = self._dataset[index]
        except Exception as error:
            raise SweepError(f"The data set raised {describe_error(error)} at sample {index}.") from error
        return index, first_entry(sample)


class _Checksums(Dataset[Any]):
    """A data set of checksums of the model's input from each sample."""

    def __init__(self, dataset: Any) -> None:
        self._inputs = Inputs(dataset)

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


def hash_samples(dataset: Any, positions: list[int], workers: int) -> list[tuple[int, str]]:
    """Return a checksum of some samples, `UNKNOWN` for those that cannot be read or differ each time they are read.

    They are read where the sweep reads them: by a worker, if it has any, since a data set that opens its files at the
    first access must not be accessed before workers are forked. No random numbers are consumed.
    """
    order = [positions[0], *positions]
    with torch.random.fork_rng(devices=[]):
        loader = CPUSeededLoader(
            _Checksums(dataset), None, sampler=order, num_workers=min(workers, 1), generator=torch.Generator()
        )
        (_, again), *found = loader
    return found if again == found[0][1] else [(position, UNKNOWN) for position in positions]


def collate(pairs: list[tuple[int, Any]]) -> torch.Tensor:
    """Return some samples as one tensor.

    Raises:
        SweepError: their shapes differ; the message names the first that differs.
    """
    first, expected = pairs[0][0], _shape(pairs[0][1])
    for index, value in pairs:
        if _shape(value) != expected:
            raise SweepError(
                f"Sample {index} has shape {_shape(value)}, but sample {first}, in the same batch, {expected}. "
                "Bring all samples to one shape, or pass batch_size=1."
            )
    return collate_inputs([value for _, value in pairs])


def collate_inputs(samples: list[Any]) -> torch.Tensor:
    """Return the model's inputs from some samples as one tensor."""
    values = [first_entry(sample) for sample in samples]
    try:
        made = default_collate(values)
    except (TypeError, RuntimeError) as error:
        raise SweepError(
            f"Samples of type {type(values[0]).__name__} cannot be collated into a batch ({error}). {_MAKE_TENSORS}"
        ) from error
    if not isinstance(made, torch.Tensor):
        raise SweepError(
            f"A sample is {kind_of(values[0])}: it must be a tensor, or a tuple whose first entry is one. "
            f"{_MAKE_TENSORS}"
        )
    return made


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
