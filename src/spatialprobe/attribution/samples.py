"""How many samples a batch holds, and the batch with its samples repeated."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError

_IMAGE_AXES = 3  # of an image in a list, as detectors take them


def count_samples(batch: object) -> int:
    """Return the number of samples of a batch: along the first axis of its first tensor, or as the images of a list.

    Raises:
        ArgumentError: there is no sample, or no tensor with an axis.

    >>> count_samples({"pixels": torch.zeros(4, 3, 8, 8)}), count_samples([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)])
    (4, 2)
    """
    if _is_list_of_images(batch):
        return len(batch)  # type: ignore[arg-type]
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    if not tensors or not tensors[0].ndim or not len(tensors[0]):
        raise ArgumentError(
            f"images must be a batch that holds a tensor with at least one sample along its first axis, not "
            f"{short_repr(batch)}."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ArgumentError("images are on the meta device, where tensors have no values: pass real ones.")
    return len(tensors[0])


def repeat_samples(batch: Any, times: int) -> Any:
    """Return a batch with all of its samples `times` times in a row; what is not along the samples stays as it is.

    >>> repeat_samples(torch.tensor([1, 2]), 2).tolist()
    [1, 2, 1, 2]
    """
    if times == 1:
        return batch
    if _is_list_of_images(batch):
        return list(batch) * times
    count = count_samples(batch)

    def repeat(leaf: Any) -> Any:
        along = isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == count
        return torch.cat([leaf] * times) if along else leaf

    return tree_map(repeat, batch)


def _is_list_of_images(batch: object) -> bool:
    return (
        isinstance(batch, list)
        and len(batch) > 0
        and all(isinstance(one, torch.Tensor) and one.ndim == _IMAGE_AXES for one in batch)
    )
