"""Data sets and what they hold: samples by number, of which the model takes the first entry."""

from __future__ import annotations

from typing import Any, Protocol


class Images(Protocol):
    """Images by number: each a tensor (C, *spatial), or a tuple whose first entry is one."""

    def __getitem__(self, index: int, /) -> object: ...


class CountedImages(Images, Protocol):
    """The same, where it is known how many there are."""

    def __len__(self) -> int: ...


def first_entry(sample: Any) -> Any:
    """What the model takes of a sample, or of a batch: of a tuple the first entry.

    >>> first_entry(("image", 3)), first_entry("image")
    ('image', 'image')
    """
    return sample[0] if isinstance(sample, (tuple, list)) and sample else sample
