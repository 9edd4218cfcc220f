"""Where in memory a tensor lies, and which part of one tensor's memory another one is."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Place(NamedTuple):
    """Where in its storage a tensor lies, and how its values are read from there."""

    size: tuple[int, ...]
    stride: tuple[int, ...]  # empty where the layout has none, as those of sparse tensors
    offset: int  # in elements of the dtype
    dtype: torch.dtype
    conjugated: bool
    negated: bool

    @staticmethod
    def of(tensor: torch.Tensor) -> Place:
        """Return the place of a tensor; one of another layout than strided is only whole, and a part of no other."""
        strided = tensor.layout is torch.strided
        return Place(
            tuple(tensor.size()),
            tuple(tensor.stride()) if strided else (),
            int(tensor.storage_offset()) if strided else 0,
            tensor.dtype,
            tensor.is_conj(),
            tensor.is_neg(),
        )

    @property
    def extent(self) -> int:
        """The number of elements from the first to the last, both included."""
        return 1 + sum((count - 1) * step for count, step in zip(self.size, self.stride, strict=True))

    @property
    def overlaps(self) -> bool:
        """Whether two elements may lie at one position, as in an expanded tensor."""
        if len(self.stride) != len(self.size):
            return False
        reach = 0
        for step, count in sorted(zip(self.stride, self.size, strict=True)):
            if count > 1 and step <= reach:
                return True
            reach += (count - 1) * step
        return False


def cut_part(values: torch.Tensor, whole: Place, part: Place) -> torch.Tensor:
    """Return what `part` reads from the memory of `whole` where that holds these values.

    Args:
        values: of the size and dtype of `whole`.
        whole: a place without overlaps.
        part: a place within it, maybe of another dtype (the real part of complex numbers).
    """
    if whole == part:
        return values
    if 0 in part.size:
        return values.new_zeros(part.size, dtype=part.dtype)
    memory = torch.zeros(whole.extent, dtype=whole.dtype, device=values.device)
    memory.as_strided(whole.size, whole.stride).copy_(_read(values, whole))
    start = (part.offset * part.dtype.itemsize - whole.offset * whole.dtype.itemsize) // part.dtype.itemsize
    if part.dtype == whole.dtype:
        return _read(memory.as_strided(part.size, part.stride, start), part)
    empty = torch.empty(0, dtype=part.dtype, device=values.device)
    return _read(empty.set_(memory.untyped_storage(), start, part.size, part.stride), part)


def contains(whole: torch.Tensor, part: torch.Tensor) -> bool:
    """Return whether every element of `part` is one of `whole`, in the same memory."""
    if not (share_storage(whole, part) and part.numel()):
        return False
    here, there = Place.of(whole), Place.of(part)
    low, high = _span(here)
    inner_low, inner_high = _span(there)
    if not low <= inner_low <= inner_high <= high or here.overlaps:
        return False
    plain = here._replace(conjugated=False, negated=False)
    marked = torch.ones(here.size, dtype=here.dtype, device=whole.device)
    if here.dtype.is_complex:
        marked = marked * (1 + 1j)
    return bool((cut_part(marked, plain, there._replace(conjugated=False, negated=False)) != 0).all())


def root_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor of which this one is a view, or itself where it is none."""
    base = tensor._base if tensor._is_view() else None
    return tensor if base is None else base


def share_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same memory, as views of each other have."""
    pointers = storage_pointer(one), storage_pointer(other)
    return pointers[0] is not None and pointers[0] == pointers[1]


def storage_pointer(tensor: torch.Tensor) -> int | None:
    """Return the address of a tensor's memory; None where it has none of its own (empty, meta, sparse, a wrapper)."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except RuntimeError:  # a wrapper subclass, whose values lie in tensors inside it, or one of torch's zero tensors
        return None


def _span(place: Place) -> tuple[int, int]:
    """Return the first byte and the one behind the last."""
    return place.offset * place.dtype.itemsize, (place.offset + place.extent) * place.dtype.itemsize


def _read(values: torch.Tensor, place: Place) -> torch.Tensor:
    """Return the values as read through the place's conjugate and negative bits; its own inverse."""
    if place.conjugated:
        values = values.conj_physical()
    return -values if place.negated else values
