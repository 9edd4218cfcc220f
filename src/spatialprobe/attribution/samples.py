"""How many samples a batch holds, and the batch with its samples repeated."""

from __future__ import annotations

from typing import Any

import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.model.batch import BatchReader, check_values, tensors_of
from spatialprobe.model.inputs import map_tensors


def count_samples(batch: object, reader: BatchReader) -> int:
    """Return the number of samples of a batch: along the first axis of its first tensor, or as the images of a list.

    Raises:
        ArgumentError: there is no sample, or no tensor with an axis.

    >>> reader = BatchReader.of(torch.nn.Conv2d(3, 4, 3))
    >>> count_samples(torch.zeros(4, 3, 8, 8), reader), count_samples([torch.zeros(3, 8, 8)] * 2, reader)
    (4, 2)
    """
    check_values(batch)
    part = reader.part(batch) if any(True for _ in tensors_of(batch)) else batch
    count = reader.count(part) if any(tensor.ndim for tensor in tensors_of(part)) else 0
    if not count:
        raise ArgumentError(
            f"images must be a batch that holds a tensor with at least one sample along its first axis, not "
            f"{short_repr(batch)}."
        )
    return count


def repeat_samples(batch: Any, times: int, reader: BatchReader) -> Any:
    """Return a batch with all of its samples `times` times in a row; what is not along the samples stays as it is.

    >>> repeat_samples(torch.tensor([1, 2]), 2, BatchReader.of(torch.nn.Conv2d(3, 4, 3))).tolist()
    [1, 2, 1, 2]
    """
    if times == 1:
        return batch
    part = reader.part(batch)
    count = reader.count(part)

    def repeat(one: Any) -> Any:
        if isinstance(one, list):
            return one * times if len(one) == count else one
        return torch.cat([one] * times) if one.ndim and len(one) == count else one

    return map_tensors(part, repeat, whole=reader.is_image_list)
