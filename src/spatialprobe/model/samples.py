"""Data sets that are indexed by sample number, and the entry of a sample that is passed to the model."""

from __future__ import annotations

from typing import Any, Protocol


class Images(Protocol):
    """A collection of images that are indexed by number: tensors (C, *spatial), or tuples that begin with one."""

    def __getitem__(self, index: int, /) -> object: ...


class CountedImages(Images, Protocol):
    """A collection of images with a known length."""

    def __len__(self) -> int: ...


def first_entry(sample: Any) -> Any:
    """Return the part of a sample or batch that is passed to the model: the first entry of a tuple or list.

    >>> first_entry(("image", 3)), first_entry("image")
    ('image', 'image')
    """
    return sample[0] if isinstance(sample, (tuple, list)) and sample else sample
