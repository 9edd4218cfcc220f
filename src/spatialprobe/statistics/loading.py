"""Samples of data sets on their way through a loader: what the model takes of them, and their positions."""

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

_MAKE_TENSORS = "For images, give the data set a transform that makes tensors."


class Inputs(Dataset[Any]):
    """A data set's samples reduced to what the model takes, each with its position."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Any]:
        try:
            sample = self._dataset[index]
        except Exception as error:
            raise SweepError(f"The data set raised {describe_error(error)} at sample {index}.") from error
        return index, first_entry(sample)


class _Checksums(Dataset[Any]):
    """A checksum of each sample of a data set, of as much as the model takes of it."""

    def __init__(self, dataset: Any) -> None:
        self._inputs = Inputs(dataset)

    def __getitem__(self, index: int) -> tuple[int, str]:
        try:
            return index, hash_value(describe(self._inputs[index][1]))
        except Exception:  # what cannot be read here may be another process's share
            return index, UNKNOWN


class _Located(Dataset[Any]):
    """A loader's data set, whose samples come with their positions."""

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
        """Return what a sampler yields as a position in the data set, counted from its beginning.

        Raises:
            ArgumentError: it is not a whole number.
        """
        try:
            position = operator.index(index)
        except TypeError as error:
            raise ArgumentError(
                f"The loader's sampler yields {short_repr(index)}, which is not a position in its data set. Pass "
                "iter(loader), whose samples are counted as they come, or a sampler that yields whole numbers."
            ) from error
        return position + len(self._dataset) if position < 0 and isinstance(self._dataset, Sized) else position


class _LocatedCollate:
    """A loader's way of making batches, which keeps the positions; a class, since workers must pickle it."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, pairs: list[tuple[int, Any]]) -> tuple[torch.Tensor, Any]:
        positions = torch.tensor([position for position, _ in pairs], dtype=torch.int64, device="cpu")
        return positions, self._collate([sample for _, sample in pairs])


class OwnLoader(DataLoader[Any]):
    """A loader that the library makes: it draws its seed on the CPU, whatever torch's default device is."""

    def __iter__(self) -> Any:
        with torch.device("cpu"):
            return super().__iter__()


def is_plain_loader(data: object) -> bool:
    """Whether it is a loader whose sampler tells which samples of its data set come."""
    return (
        isinstance(data, DataLoader)
        and type(data).__iter__ is DataLoader.__iter__
        and data.batch_sampler is not None
        and not isinstance(data.dataset, IterableDataset)
    )


def located(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader, whose batches come as pairs: positions in its data set, and what it gives by itself."""
    return DataLoader(
        _Located(loader.dataset),
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


def checksums(dataset: Any, positions: list[int], workers: int) -> list[tuple[int, str]]:
    """Return a checksum of some samples, `UNKNOWN` for what cannot be read, or differs each time it is read.

    They are read where the sweep reads them: by a worker, if it has any, since a data set that opens its files when it
    is first asked must not be asked before workers are forked. No random numbers are used up.
    """
    order = [positions[0], *positions]
    with torch.random.fork_rng(devices=[]):
        loader = OwnLoader(
            _Checksums(dataset), None, sampler=order, num_workers=min(workers, 1), generator=torch.Generator()
        )
        (_, again), *found = loader
    return found if again == found[0][1] else [(position, UNKNOWN) for position in positions]


def collate(pairs: list[tuple[int, Any]]) -> torch.Tensor:
    """One tensor of some samples.

    Raises:
        SweepError: they do not fit together; it names the first that differs.
    """
    first, expected = pairs[0][0], _shape(pairs[0][1])
    for index, value in pairs:
        if _shape(value) != expected:
            raise SweepError(
                f"Sample {index} has shape {_shape(value)}, but sample {first}, in the same batch, {expected}. "
                "Bring all samples to one shape, or give batch_size=1."
            )
    return collate_inputs([value for _, value in pairs])


def collate_inputs(samples: list[Any]) -> torch.Tensor:
    """One tensor of what the model takes of some samples."""
    values = [first_entry(sample) for sample in samples]
    try:
        made = default_collate(values)
    except (TypeError, RuntimeError) as error:
        raise SweepError(
            f"Samples of type {type(values[0]).__name__} make no batch ({error}). {_MAKE_TENSORS}"
        ) from error
    if not isinstance(made, torch.Tensor):
        raise SweepError(
            f"A sample is {kind_of(values[0])}: it must be a tensor, or a tuple whose first entry is one. "
            f"{_MAKE_TENSORS}"
        )
    return made


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
