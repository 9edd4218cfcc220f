"""Rules of operators that place elements by index: as in numpy if the index is known; otherwise anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from spatialprobe.fields.lattice import grid
from spatialprobe.fields.reach import Reach, constant, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.rules.table import rule
from spatialprobe.fields.strided import view_strided
from spatialprobe.fields.taps import NONE, Ints


@rule("index", "_unsafe_index")
def _index(operation: Operation) -> Reach:
    """Return what advanced indexing selects; an index that depends on the input, or is not known, may be any."""
    seen, index = operation.reach("self"), operation["indices"]
    values = [None if one is None else operation.values_of(one) for one in index]
    if seen.is_constant:
        return operation.with_all_of(constant(operation.shape), "indices")
    if any(one is not None and value is None for one, value in zip(index, values, strict=True)):
        return _see_anywhere(operation, seen)
    used = {dim: value for dim, value in enumerate(values) if value is not None}
    made = None if any(value.dtype == bool for value in used.values()) else _index_outer(seen, used)
    if made is not None:
        return made.reshaped(operation.shape)
    key = tuple(slice(None) if value is None else value for value in values)
    return seen.from_dense(np.stack([np.stack([bound[key] for bound in axis]) for axis in seen.dense()]))


def _index_outer(seen: Reach, used: Mapping[int, Ints]) -> Reach | None:
    """Return what is selected if the indices of different dimensions vary along different dimensions of their own.

    None if two of them vary along the same one, as those of single pixels do.
    """
    rank = max(index.ndim for index in used.values())
    own = {
        dim: [rank - index.ndim + axis for axis, size in enumerate(index.shape) if size > 1]
        for dim, index in used.items()
    }
    if len({axis for axes in own.values() for axis in axes}) < sum(map(len, own.values())):
        return None
    labels: list[tuple[bool, int]] = [(False, dim) for dim in range(len(seen.shape))]  # the index's own, and which
    for dim in sorted(used, reverse=True):
        index = used[dim].reshape([size for size in used[dim].shape if size > 1])
        taken = _take_positions(seen, dim, index)
        seen = taken.reshaped((*seen.shape[:dim], *index.shape, *seen.shape[dim + 1 :]))
        labels[dim : dim + 1] = [(True, axis) for axis in own[dim]]
    first, last = min(used), max(used)
    ahead = first if last - first == len(used) - 1 else 0  # if they are not adjacent they come first
    others = [label for label in labels if not label[0]]
    target = [*others[:ahead], *sorted(label for label in labels if label[0]), *others[ahead:]]
    return seen.permuted([labels.index(label) for label in target])


def _take_positions(seen: Reach, dim: int, index: Ints) -> Reach:
    """Return these positions (...) of a dimension, flattened; those on a grid also without borders."""
    index = index % max(1, seen.shape[dim])
    found = _as_grid(index)
    return seen.gridded(dim, *found, index.shape) if found else seen.taken(dim, index.reshape(-1))


def _as_grid(index: Ints) -> tuple[int, list[int]] | None:
    """Return the first of indices (...) and the step along each of their dimensions; None if they are not a grid."""
    if index.ndim < 2 or not index.size:
        return None
    start = int(index.flat[0])
    steps = [int(index.take(1, axis=axis).flat[0]) - start if size > 1 else 0 for axis, size in enumerate(index.shape)]
    return (start, steps) if (index == grid(start, steps, index.shape)).all() else None


@rule("index_select", "index_select_copy")
def _index_select(operation: Operation) -> Reach:
    seen, index = _as_line(operation.reach("self")), operation.values("index")
    if index is None:
        return _see_anywhere(operation, seen)
    return seen.taken(operation["dim"] % len(seen.shape), index.reshape(-1)).reshaped(operation.shape)


@rule("take")
def _take(operation: Operation) -> Reach:
    """Return elements by their place in row-major order."""
    seen, index = operation.reach("self"), operation.values("index")
    if index is None:
        return _see_anywhere(operation, seen)
    index = index % max(1, prod(seen.shape))
    found = _as_grid(index)
    if found is not None and min(found[1]) >= 0:
        strides = tuple(prod(seen.shape[dim + 1 :]) for dim in range(len(seen.shape)))
        viewed = view_strided(seen, (0, seen.shape, strides, 1), (found[0], index.shape, tuple(found[1]), 1))
        if viewed is not None:
            return viewed
    return seen.reshaped((prod(seen.shape),)).taken(0, index.reshape(-1)).reshaped(operation.shape)


@rule("gather")
def _gather(operation: Operation) -> Reach:
    seen, index, dim = operation.reach("self"), operation.values("index"), operation["dim"]
    if seen.is_constant or index is None:
        along = seen.reduced([dim], keepdim=True) if seen.shape else seen
        cut = along.expanded(_grow_shape(along.shape, operation.shape))
        for other, size in enumerate(operation.shape):
            cut = cut.sliced(other, 0, 1, size)
        return operation.with_all_of(cut, "index").inexact()
    if not seen.shape:
        return _as_line(seen).taken(0, index.reshape(-1)).reshaped(operation.shape)
    dim %= len(seen.shape)
    first = index[tuple(slice(None if d == dim else 1) for d in range(index.ndim))]
    if index.ndim and (index == first).all():  # the same in every row
        for other, size in enumerate(index.shape):
            seen = seen if other == dim else seen.sliced(other, 0, 1, size)
        return seen.taken(dim, first.reshape(-1))
    bounds = seen.dense()[
        (slice(None), slice(None), *(slice(n if d != dim else None) for d, n in enumerate(index.shape)))
    ]
    return seen.from_dense(np.take_along_axis(bounds, index[None, None], axis=dim + 2))


@rule("embedding")
def _embed(operation: Operation) -> Reach:
    """Return rows of a table: each sees what its index sees, and the row, or any row if the index is not known."""
    table, numbers = operation.reach("weight"), operation.reach("indices")
    if table.is_constant:
        return numbers.reshaped((*numbers.shape, 1)).expanded(operation.shape)
    index = operation.values("indices") if numbers.is_constant else None
    if index is not None:
        return table.taken(0, index.reshape(-1)).reshaped(operation.shape)
    anywhere = table.reduced([0], keepdim=True).reshaped((*(1,) * len(numbers.shape), table.shape[1]))
    return union([anywhere, numbers.reshaped((*numbers.shape, 1))], operation.shape).inexact()


@rule("index_copy", "index_add")
def _index_put_along(operation: Operation) -> Reach:
    """Return a tensor with slices put at, or added to, positions of one dimension."""
    seen, source = _as_line(operation.reach("self")), _as_line(operation.reach("source"))
    index, dim = operation.values("index"), operation["dim"] % len(seen.shape)
    if index is None:
        return _see_anywhere_among(operation, [seen, source])
    table = _find_sources(index.reshape(-1), seen.shape[dim])
    put = source.gathered(dim, table)
    kept = seen if "add" in operation.name else seen.gathered(dim, _find_untouched(index.reshape(-1), seen.shape[dim]))
    return union([kept, put], seen.shape).reshaped(operation.shape)


@rule("index_fill", "index_fill_")
def _index_fill(operation: Operation) -> Reach:
    seen, index = _as_line(operation.reach("self")), operation.values("index")
    if index is None:
        return operation.with_all_of(operation.reach("self"), "index", "value").inexact()
    dim = operation["dim"] % len(seen.shape)
    kept = _find_untouched(index.reshape(-1), seen.shape[dim])
    put = np.where(kept == NONE, 0, NONE)
    fills = [one.expanded(seen.shape).gathered(dim, put) for one in operation.reaches("value")]
    return union([seen.gathered(dim, kept), *fills], seen.shape).reshaped(operation.shape)


@rule("scatter", "scatter_add", "scatter_reduce")
def _scatter(operation: Operation) -> Reach:
    """Return a tensor with single elements put at, or added to, positions of one dimension."""
    seen = operation.reach("self")
    source = operation.reach("src") if "src" in operation else constant(operation["index"].shape)
    index, dim = operation.values("index"), operation["dim"]
    if index is not None and not seen.shape:
        seen, source, index = _as_line(seen), _as_line(source), index.reshape(-1)
    sees = next((one for one in (seen, source) if not one.is_constant), None)
    if index is None or sees is None:
        return _see_anywhere_among(operation, [seen, source])
    into, values = _dense_like(seen, sees), _dense_like(source, sees)
    adds = operation.name.endswith(("add", "reduce")) or operation.arguments.get("reduce") is not None
    places: list[Ints] = list(np.indices(index.shape, sparse=True))
    places[dim] = index
    cut = values[(slice(None), slice(None), *(slice(n) for n in index.shape))]
    if not operation.arguments.get("include_self", True):  # the previous element is replaced by the first new one
        _put(into, tuple(places), _dense_like(constant(index.shape), sees), adds=False)
    _put(into, tuple(places), cut, adds=adds)
    return sees.from_dense(into).reshaped(operation.shape)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def _index_put(operation: Operation) -> Reach:
    """Return `x` after `x[index] = values` or `x[index] += values`."""
    seen, source, index = operation.reach("self"), operation.reach("values"), operation["indices"]
    known = [None if one is None else operation.values_of(one) for one in index]
    sees = next((one for one in (seen, source) if not one.is_constant), None)
    if sees is None or any(one is not None and value is None for one, value in zip(index, known, strict=True)):
        return _see_anywhere_among(operation, [seen, source])
    key = tuple(slice(None) if value is None else value for value in known)
    into, values = _dense_like(seen, sees), _dense_like(source, sees)
    _put(into, key, values, adds=operation["accumulate"])
    return sees.from_dense(into)


@rule(
    "nonzero", "masked_select", "masked_scatter", "unique", "_unique2", "unique_consecutive", "unique_dim", "bincount"
)
def _see_everything(operation: Operation) -> Reach:
    """Return a bound: which elements there are depends on values."""
    return _see_anywhere_among(operation, operation.reaches())


def _as_line(reach: Reach) -> Reach:
    """Return a scalar as a vector of one: torch indexes both in the same way."""
    return reach if reach.shape else reach.reshaped((1,))


def _see_anywhere(operation: Operation, seen: Reach) -> Reach:
    """Return a bound: each element may be any of a tensor's, and depends on the index."""
    return operation.with_all_of(
        seen.everything(operation.shape), "indices" if "indices" in operation else "index"
    ).inexact()


def _see_anywhere_among(operation: Operation, reaches: list[Reach]) -> Reach:
    """Return a bound: each element may be any of several tensors', and depends on all arguments."""
    shape = operation.shape
    everything = [one.everything(shape) for one in (*reaches, *operation.reaches()) if not one.is_constant]
    return union(everything, shape).inexact() if everything else constant(shape)


def _find_sources(index: Ints, size: int) -> Ints:
    """Return for each position the slices that are put there, (size, k)."""
    sources = [np.flatnonzero(index % size == position) for position in range(size)]
    table = np.full((size, max(1, *map(len, sources)) if size else 1), NONE)
    for row, found in zip(table, sources, strict=True):
        row[: len(found)] = found
    return table


def _find_untouched(index: Ints, size: int) -> Ints:
    """Return each position itself, or NONE where a slice is put, (size, 1)."""
    positions = np.arange(size)
    return np.where(np.isin(positions, index % size), NONE, positions)[:, None]


def _dense_like(reach: Reach, sees: Reach) -> Ints:
    """Return the dense bounds of a reach; those of a constant are empty."""
    return (Reach(reach.shape, sees.empties(len(reach.shape))) if reach.is_constant else reach).dense()


def _put(into: Ints, places: tuple[Any, ...], values: Ints, *, adds: bool) -> None:
    """Write bounds (axes, 4, ...) at some places of others, or take the union with what is there."""
    for axis in range(len(into)):
        for bound in range(4):
            if adds:
                (np.maximum if bound % 2 else np.minimum).at(into[axis, bound], places, values[axis, bound])
            else:
                into[axis, bound][places] = values[axis, bound]


def _grow_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape in which sizes of 1 are replaced by those of another shape."""
    return tuple(new if old == 1 else old for old, new in zip(shape, wanted, strict=True))
