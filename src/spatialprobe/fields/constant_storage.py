"""The storage of a constant: what is known of its values, and views of them in the shapes of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import prod
from typing import TypeAlias

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from spatialprobe.fields.deferred import Deferred

Layout: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], int]  # sizes, strides, offset

NOWHERE: Layout = ((), (), 0)  # of unknown values


class Kind(Enum):
    """The knowledge of a constant's values."""

    KNOWN = auto()
    WEIGHT = auto()  # any values that training may lead to, none of them special
    FROZEN = auto()  # of a parameter that is not trained: a layer's weight, or else a mask; known
    UNKNOWN = auto()
    UNSEEN = auto()  # created without an operator


@dataclass(slots=True)
class ConstantStorage:
    """A storage that is alive, or was, and, for one of the meta device, the values of its elements."""

    storage: StorageWeakRef | None  # None: it lives as long as the pass
    kind: Kind
    source: torch.Tensor | Deferred | None  # a tensor with the values, or the run that computes them
    layout: Layout  # of the source's elements in the storage
    owned: bool  # whether the values may be modified: they do not belong to the model
    number: int = 0  # the index of the result, of the run that computes them
    flat: torch.Tensor | None = None  # the storage's elements in their order, on the CPU

    def view(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a tensor in this storage; None if it has another dtype, or elements beyond it."""
        if self.flat is None and isinstance(self.source, torch.Tensor):
            self.flat, self.owned = _flatten(self.source.detach(), self.layout, owned=self.owned)
        flat = self.flat
        if flat is None or flat.dtype != tensor.dtype or tensor.is_conj() or tensor.is_neg():
            return None
        if _extent(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())) > flat.numel():
            return None
        return torch.as_strided(flat, tensor.size(), tensor.stride(), tensor.storage_offset())


def covers(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds every element of its storage."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return whole and (tensor.numel() <= 1 or 0 not in tensor.stride())


def _flatten(source: torch.Tensor, layout: Layout, *, owned: bool) -> tuple[torch.Tensor, bool]:
    """Return values as a vector in the order of a layout, and whether its memory is not the model's."""
    values = source.cpu()
    if values.is_contiguous() and values.stride() == layout[1] and layout[2] == 0:
        return values.reshape(-1), owned or values is not source
    flat = values.new_zeros(_extent(*layout))
    torch.as_strided(flat, *layout).copy_(values)
    return flat, True


def _extent(sizes: tuple[int, ...], strides: tuple[int, ...], offset: int) -> int:
    """Return the least number of elements of a storage that holds a tensor of this layout."""
    if not prod(sizes):
        return 0
    return offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
