"""What tensors see, stored by the memory that they share: a write through one view is seen through all others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.sizes import Sizes, merge_sizes
from spatialprobe.fields.strided import Geometry, find_region, view_strided
from spatialprobe.fields.taps import Ints
from spatialprobe.tensors import holds_own_memory

_SWEEP = 512  # new storages after which freed ones are removed


@dataclass(slots=True)
class _Cell:
    """A storage that is alive, or was: as long as the weak reference exists, no other storage takes its address."""

    storage: StorageWeakRef
    elements: int  # of the size of the first tensor's elements
    item: int  # bytes of such an element
    reaches: dict[Geometry, Reach] = field(default_factory=dict)


def has_storage(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has one storage: a sparse, mkldnn or nested tensor or a wrapper subclass has not."""
    return holds_own_memory(tensor) or tensor.is_quantized


def form_of(tensor: torch.Tensor) -> str:
    """Return the plural name of the kind of a tensor without a storage of its own, such as "nested tensors"."""
    if tensor.is_nested:
        return "nested tensors"
    layout = str(tensor.layout).removeprefix("torch.").lstrip("_")
    return f"{type(tensor).__name__ if tensor.layout is torch.strided else layout} tensors"


def unfollowed_error(tensor: torch.Tensor, where: str) -> NotImplementedError:
    """Return the error that ends a pass without values at a tensor that cannot be on the meta device."""
    return NotImplementedError(f"{form_of(tensor)} are not followed without values ({where})")


class Memory:
    """What each tensor sees, by its storage and its place in it; memory that was never written sees nothing."""

    def __init__(self) -> None:
        self._cells: dict[int, _Cell] = {}
        self._since_sweep = 0

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._cells

    def read(self, tensor: torch.Tensor) -> Reach:
        """Return what each element of a tensor sees."""
        found = self.find(tensor)
        return constant(tensor.shape) if found is None else found

    def find(self, tensor: torch.Tensor) -> Reach | None:
        """Return what each element of a tensor sees; None if nothing of its memory was ever written."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        if cell is None:
            return None
        place = _place_of(tensor)
        found = cell.reaches.get(place)
        if found is None:
            found = cell.reaches[place] = _derive(cell, place)
        return found

    def bind(self, tensor: torch.Tensor, reach: Reach) -> None:
        """Set what a new tensor sees, be it in new memory or a view of existing memory."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        if cell is None:
            if reach.is_constant:
                return
            cell = self._new_cell(tensor)
        cell.reaches[_place_of(tensor)] = reach

    def stand_beside(self, tensor: torch.Tensor, least: float, most: float) -> None:
        """Note the least and the largest of the constants in the memory that a tensor shares with others."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        for place, reach in list(cell.reaches.items()) if cell else ():
            if cell and reach.spans:
                sizes = merge_sizes([reach.sizes, Sizes(reach.sizes.low, reach.sizes.high, least, most)])
                cell.reaches[place] = replace(reach, sizes=sizes)

    def write(self, tensor: torch.Tensor, reach: Reach) -> None:
        """Set what a tensor sees that was modified in place, and with it all tensors that share its memory."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        place = _place_of(tensor)
        if cell is None:
            if reach.is_constant:
                return
            cell = self._new_cell(tensor)
            whole = tensor if tensor._base is None else tensor._base  # in whose dimensions even spacings stay even
            cell.reaches[_place_of(whole)] = constant(whole.shape)
        if _covers(place, cell):
            cell.reaches = {place: reach}
            return
        base = _base_of(cell)
        cell.reaches = {base[0]: _update(cell, base, place, reach), place: reach}

    def _new_cell(self, tensor: torch.Tensor) -> _Cell:
        """Return a new cell for a tensor's storage; remove cells of freed storages now and then."""
        self._since_sweep += 1
        if self._since_sweep > _SWEEP:
            self._since_sweep = 0
            self._cells = {key: cell for key, cell in self._cells.items() if not cell.storage.expired()}  # type: ignore[no-untyped-call]
        storage = tensor.untyped_storage()
        item = tensor.element_size()
        cell = _Cell(StorageWeakRef(storage), storage.nbytes() // item, item)  # type: ignore[no-untyped-call]
        self._cells[storage._cdata] = cell
        return cell


def _place_of(tensor: torch.Tensor) -> Geometry:
    """Return where a tensor's elements lie in its storage."""
    return int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.element_size()


def _flat_place(cell: _Cell) -> Geometry:
    """Return the place of the whole storage as a vector."""
    return 0, (cell.elements,), (1,), cell.item


def _covers(place: Geometry, cell: _Cell) -> bool:
    """Return whether a tensor holds every element of its storage, each once."""
    _, sizes, strides, item = place
    return prod(sizes) == cell.elements and item == cell.item and (cell.elements <= 1 or 0 not in strides)


def _fits(place: Geometry, cell: _Cell) -> bool:
    """Return whether a tensor has elements of the storage's own size, and lies inside what is known of it."""
    offset, sizes, strides, item = place
    return item == cell.item and offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) < cell.elements


def _base_of(cell: _Cell) -> tuple[Geometry, Reach]:
    """Return a place that holds the whole storage and what it sees, or the flat storage composed of known parts."""
    for place, reach in cell.reaches.items():
        if _covers(place, cell):
            return place, reach
    flat, whole = _flat_place(cell), constant((cell.elements,))
    for place, reach in cell.reaches.items():
        whole = _update(cell, (flat, whole), place, reach)
    return flat, whole


def _derive(cell: _Cell, place: Geometry) -> Reach:
    """Return what a tensor sees that is a view of memory whose reach is known."""
    base, reach = _base_of(cell)
    if reach.is_constant:
        return constant(place[1])
    if not _fits(place, cell):
        return reach.everything(place[1]).inexact()
    if _is_row_major(base) and _is_row_major(place) and base[0] == place[0] and prod(base[1]) == prod(place[1]):
        return reach.reshaped(place[1])
    viewed = view_strided(reach, base, place)
    if viewed is not None:
        return viewed
    return reach.from_dense(_view_memory(_lay_out(cell, base, reach, reach), place))


def _update(cell: _Cell, base: tuple[Geometry, Reach], place: Geometry, reach: Reach) -> Reach:
    """Return what a tensor that holds the whole storage sees after a part of it was written."""
    where, old = base
    found = find_region(where, place) if place[3] == where[3] else None
    if found is not None:
        region, order = found
        sizes = [len(range(size)[part]) for size, part in zip(where[1], region, strict=True)]
        return old.patched(region, reach.permuted(order).reshaped(sizes))
    seeing = [one for one in (old, reach) if not one.is_constant]
    if not seeing:
        return constant(where[1])
    if not _fits(place, cell):
        return union([one.everything(where[1]) for one in seeing], where[1]).inexact()
    memory = _lay_out(cell, where, old, seeing[0])
    _view_memory(memory, place)[...] = _dense_bounds(reach, seeing[0])
    updated = seeing[0].from_dense(_view_memory(memory, where))
    unknown = frozenset[str]().union(*(one.unknown for one in seeing))
    large = merge_sizes([one.sizes for one in seeing])
    return replace(updated, exact=all(one.exact for one in seeing), unknown=unknown, sizes=large)


def _lay_out(cell: _Cell, place: Geometry, reach: Reach, like: Reach) -> Ints:
    """Return every bound (axes, 4, elements) in the order in which the elements lie in memory."""
    bounds = _dense_bounds(reach, like)
    memory = np.empty((*bounds.shape[:2], cell.elements), np.int64)
    _view_memory(memory, place)[...] = bounds
    return memory


def _dense_bounds(reach: Reach, like: Reach) -> Ints:
    """Return the dense bounds of a reach; for a constant, empty bounds along the axes of another."""
    return reach.dense() if reach.spans else Reach(reach.shape, like.empties(len(reach.shape))).dense()


def _view_memory(memory: Ints, place: Geometry) -> Ints:
    """Return a view of memory (axes, 4, elements) in the shape of a tensor, (axes, 4, *sizes)."""
    offset, sizes, strides, _ = place
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(
        memory[:, :, offset:],
        (*memory.shape[:2], *sizes),
        (*memory.strides[:2], *(stride * item for stride in strides)),
    )


def _is_row_major(place: Geometry) -> bool:
    """Return whether a tensor is contiguous in row-major order."""
    expected = 1
    for size, stride in zip(reversed(place[1]), reversed(place[2]), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
