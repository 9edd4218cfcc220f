"""The place of a tensor in memory, and whether one tensor is a part of another's memory."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Place(NamedTuple):
    """The place of a tensor in its storage, and how its values are read from there."""

    size: tuple[int, ...]
    stride: tuple[int, ...]  # empty for layouts without strides, such as sparse ones
    offset: int  # in elements of the dtype
    dtype: torch.dtype
    conjugated: bool
    negated: bool

    @staticmethod
    def of(tensor: torch.Tensor) -> Place:
        """Return the place of a tensor; one of a layout other than strided has no parts."""
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
        """Whether two elements may share one position, as in an expanded tensor."""
        if len(self.stride) != len(self.size):
            return False
        reach = 0
        for step, count in sorted(zip(self.stride, self.size, strict=True)):
            if count > 1 and step <= reach:
                return True
            reach += (count - 1) * step
        return False


def cut_part(values: torch.Tensor, whole: Place, part: Place) -> torch.Tensor:
    """Return the values that `part` reads from the memory of `whole`, if that memory holds these values.

    Args:
        values: of the size and dtype of `whole`.
        whole: a place without overlaps.
        part: a place within it, possibly of another dtype (the real part of complex numbers).
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
    """Return whether every element of `part` is an element of `whole`, in the same memory."""
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
    """Return the base of a view; for any other tensor, the tensor itself."""
    base = tensor._base if tensor._is_view() else None
    return tensor if base is None else base


def share_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same storage, like views of each other."""
    pointers = storage_pointer(one), storage_pointer(other)
    return pointers[0] is not None and pointers[0] == pointers[1]


def storage_pointer(tensor: torch.Tensor) -> int | None:
    """Return the address of a tensor's memory; None if it has none of its own (empty, meta, sparse, a wrapper)."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except RuntimeError:  # a wrapper subclass, whose values lie in tensors inside it, or one of torch's zero tensors
        return None


def _span(place: Place) -> tuple[int, int]:
    """Return the offsets of the first byte and of the byte after the last."""
    return place.offset * place.dtype.itemsize, (place.offset + place.extent) * place.dtype.itemsize


def _read(values: torch.Tensor, place: Place) -> torch.Tensor:
    """Return the values as read through the place's conjugate and negative bits; applied twice, it changes nothing."""
    if place.conjugated:
        values = values.conj_physical()
    return -values if place.negated else values
