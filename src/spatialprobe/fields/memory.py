"""What tensors see, kept by the memory they share: a write through one view is seen through all others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.sizes import Sizes, merged
from spatialprobe.fields.strided import Geometry, region_of, strided
from spatialprobe.fields.taps import Ints
from spatialprobe.tensors import holds_own_memory

_SWEEP = 512  # new storages, until the dead ones are forgotten


@dataclass(slots=True)
class _Cell:
    """One storage that is alive, or was: as long as the reference is held, no other storage takes its address."""

    storage: StorageWeakRef
    elements: int  # of the size that the first tensor's had
    item: int  # bytes of such an element
    reaches: dict[Geometry, Reach] = field(default_factory=dict)


def has_storage(tensor: torch.Tensor) -> bool:
    """Return whether a tensor lies in one storage: not a sparse, mkldnn or nested one, nor a wrapper subclass."""
    return holds_own_memory(tensor) or tensor.is_quantized


def form_of(tensor: torch.Tensor) -> str:
    """Return what tensors are called whose values, as this one's, lie in no storage of their own."""
    if tensor.is_nested:
        return "nested tensors"
    layout = str(tensor.layout).removeprefix("torch.").lstrip("_")
    return f"{type(tensor).__name__ if tensor.layout is torch.strided else layout} tensors"


def unfollowed(tensor: torch.Tensor, where: str) -> NotImplementedError:
    """Return the error that ends a pass without values at a tensor that has no form there."""
    return NotImplementedError(f"{form_of(tensor)} are not followed without values ({where})")


class Memory:
    """What each tensor sees, found by its storage and its place in it; what was never written sees nothing."""

    def __init__(self) -> None:
        self._cells: dict[int, _Cell] = {}
        self._since_sweep = 0

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._cells

    def read(self, tensor: torch.Tensor) -> Reach:
        """What each element of a tensor sees."""
        found = self.find(tensor)
        return constant(tensor.shape) if found is None else found

    def find(self, tensor: torch.Tensor) -> Reach | None:
        """What each element of a tensor sees; None if nothing of its memory was ever written."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        if cell is None:
            return None
        place = _geometry(tensor)
        found = cell.reaches.get(place)
        if found is None:
            found = cell.reaches[place] = _derived(cell, place)
        return found

    def bind(self, tensor: torch.Tensor, reach: Reach) -> None:
        """What a new tensor sees, be it in new memory or a view of old."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        if cell is None:
            if reach.is_constant:
                return
            cell = self._new_cell(tensor)
        cell.reaches[_geometry(tensor)] = reach

    def stand_beside(self, tensor: torch.Tensor, least: float, most: float) -> None:
        """Note the least and the largest of the constants in the memory that a tensor shares with others."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        for place, reach in list(cell.reaches.items()) if cell else ():
            if cell and reach.spans:
                sizes = merged([reach.sizes, Sizes(reach.sizes.low, reach.sizes.high, least, most)])
                cell.reaches[place] = replace(reach, sizes=sizes)

    def write(self, tensor: torch.Tensor, reach: Reach) -> None:
        """A tensor was written over, and with it whatever shares its memory."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        place = _geometry(tensor)
        if cell is None:
            if reach.is_constant:
                return
            cell = self._new_cell(tensor)
            whole = tensor if tensor._base is None else tensor._base  # whose own dimensions keep even spacings even
            cell.reaches[_geometry(whole)] = constant(whole.shape)
        if _covers(place, cell):
            cell.reaches = {place: reach}
            return
        base = _base(cell)
        cell.reaches = {base[0]: _written(cell, base, place, reach), place: reach}

    def _new_cell(self, tensor: torch.Tensor) -> _Cell:
        self._since_sweep += 1
        if self._since_sweep > _SWEEP:
            self._since_sweep = 0
            self._cells = {key: cell for key, cell in self._cells.items() if not cell.storage.expired()}  # type: ignore[no-untyped-call]
        storage = tensor.untyped_storage()
        item = tensor.element_size()
        cell = _Cell(StorageWeakRef(storage), storage.nbytes() // item, item)  # type: ignore[no-untyped-call]
        self._cells[storage._cdata] = cell
        return cell


def _geometry(tensor: torch.Tensor) -> Geometry:
    return int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.element_size()


def _flat(cell: _Cell) -> Geometry:
    """The whole storage as a vector."""
    return 0, (cell.elements,), (1,), cell.item


def _covers(place: Geometry, cell: _Cell) -> bool:
    """Whether a tensor holds every element of its storage, each once."""
    _, sizes, strides, item = place
    return prod(sizes) == cell.elements and item == cell.item and (cell.elements <= 1 or 0 not in strides)


def _fits(place: Geometry, cell: _Cell) -> bool:
    """Whether a tensor has elements of the storage's own size, and lies inside what is known of it."""
    offset, sizes, strides, item = place
    return item == cell.item and offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) < cell.elements


def _base(cell: _Cell) -> tuple[Geometry, Reach]:
    """A tensor that holds the whole storage, or the flat storage put together from the parts that are known."""
    for place, reach in cell.reaches.items():
        if _covers(place, cell):
            return place, reach
    flat, whole = _flat(cell), constant((cell.elements,))
    for place, reach in cell.reaches.items():
        whole = _written(cell, (flat, whole), place, reach)
    return flat, whole


def _derived(cell: _Cell, place: Geometry) -> Reach:
    """What a tensor sees that is another look at memory whose reach is known."""
    base, reach = _base(cell)
    if reach.is_constant:
        return constant(place[1])
    if not _fits(place, cell):
        return reach.everything(place[1]).inexact()
    if _row_major(base) and _row_major(place) and base[0] == place[0] and prod(base[1]) == prod(place[1]):
        return reach.reshaped(place[1])
    viewed = strided(reach, base, place)
    if viewed is not None:
        return viewed
    return reach.from_dense(_looked(_in_memory(cell, base, reach, reach), place))


def _written(cell: _Cell, base: tuple[Geometry, Reach], place: Geometry, reach: Reach) -> Reach:
    """What a tensor that holds the whole storage sees after a part of it was written."""
    where, old = base
    found = region_of(where, place) if place[3] == where[3] else None
    if found is not None:
        region, order = found
        sizes = [len(range(size)[part]) for size, part in zip(where[1], region, strict=True)]
        return old.patched(region, reach.permuted(order).reshaped(sizes))
    seeing = [one for one in (old, reach) if not one.is_constant]
    if not seeing:
        return constant(where[1])
    if not _fits(place, cell):
        return union([one.everything(where[1]) for one in seeing], where[1]).inexact()
    memory = _in_memory(cell, where, old, seeing[0])
    _looked(memory, place)[...] = _bounds(reach, seeing[0])
    mended = seeing[0].from_dense(_looked(memory, where))
    unknown = frozenset[str]().union(*(one.unknown for one in seeing))
    large = merged([one.sizes for one in seeing])
    return replace(mended, exact=all(one.exact for one in seeing), unknown=unknown, sizes=large)


def _in_memory(cell: _Cell, place: Geometry, reach: Reach, like: Reach) -> Ints:
    """Every bound (axes, 4, elements) in the order in which the elements lie in memory."""
    bounds = _bounds(reach, like)
    memory = np.empty((*bounds.shape[:2], cell.elements), np.int64)
    _looked(memory, place)[...] = bounds
    return memory


def _bounds(reach: Reach, like: Reach) -> Ints:
    """The dense bounds of a reach; of a constant, as many empty ones as another has axes."""
    return reach.dense() if reach.spans else Reach(reach.shape, like.empties(len(reach.shape))).dense()


def _looked(memory: Ints, place: Geometry) -> Ints:
    """A view of memory (axes, 4, elements) as the tensor there sees it, (axes, 4, *sizes)."""
    offset, sizes, strides, _ = place
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(
        memory[:, :, offset:],
        (*memory.shape[:2], *sizes),
        (*memory.strides[:2], *(stride * item for stride in strides)),
    )


def _row_major(place: Geometry) -> bool:
    expected = 1
    for size, stride in zip(reversed(place[1]), reversed(place[2]), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
