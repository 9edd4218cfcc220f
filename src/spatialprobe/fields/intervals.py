"""Arithmetic on intervals: what each element of a tensor sees along one axis of the input. Numpy only.

Arrays are broadcast against the tensor's shape: their extent is 1 wherever the interval does not vary, so that a tensor
of 512 x 56 x 56 takes a few dozen integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

import spatialprobe.fields.lattice as lattices
from spatialprobe.fields.lattice import Lattice
from spatialprobe.fields.spacing import BEYOND
from spatialprobe.fields.taps import Bools, Ints, Taps, affine

Shape: TypeAlias = Sequence[int]
Regrouping: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]  # old sizes -> new sizes, run by run


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """The half-open interval [lo, hi) of input positions along one axis, for each element of a tensor.

    `lo` and `hi` refer to the real input, [0, n), and are empty (lo > hi) where an element sees nothing of it. The
    lattice refers to an input without borders.
    """

    lo: Ints  # one extent per dimension: its size, or 1
    hi: Ints
    lattice: Lattice

    @staticmethod
    def identity(size: int, dim: int, ndim: int) -> Span:
        """Return the span of the input itself: each position along a dimension of this size sees itself."""
        lo = np.arange(size).reshape([size if d == dim else 1 for d in range(ndim)])
        zero = np.zeros((1,) * ndim, np.int64)
        return Span(lo, lo + 1, Lattice(zero, zero + 1, tuple(int(d == dim) for d in range(ndim))))

    @staticmethod
    def empty(ndim: int) -> Span:
        """Return the span of a constant."""
        beyond = np.full((1,) * ndim, BEYOND)
        return Span(beyond, -beyond, Lattice(beyond, -beyond, (0,) * ndim))

    def tapped(self, dim: int, taps: Taps, inputs: int, outputs: int, *, blanks: bool = True) -> Span:
        """Return the union over the taps of each output position along a dimension.

        An output without taps sees nothing. With `blanks=False`, this is left to the span of another axis where the
        intervals of this one do not vary along the dimension.
        """
        index, nothing = taps.table(inputs, outputs)
        lattice = self.lattice.tapped(dim, taps)
        if self.lo.shape[dim] == 1:
            if nothing is None or not blanks:
                return Span(self.lo, self.hi, lattice)
            lo, hi = self.lo.repeat(outputs, dim), self.hi.repeat(outputs, dim)
        else:
            lo = self.lo.take(index, axis=dim).min(axis=dim + 1)
            hi = self.hi.take(index, axis=dim).max(axis=dim + 1)
        if nothing is not None:
            lo, hi = _blanked(lo, hi, nothing, dim)
        return _compress(lo, hi, (dim,), lattice)

    def sliced(self, dim: int, start: int, step: int, outputs: int) -> Span:
        """Return positions start, start + step, ... of a dimension."""
        lattice = self.lattice.tapped(dim, affine(start, step))
        if self.lo.shape[dim] == 1:
            return Span(self.lo, self.hi, lattice)
        index = np.arange(start, start + outputs * step, step)
        return _compress(self.lo.take(index, axis=dim), self.hi.take(index, axis=dim), (dim,), lattice)

    def gridded(self, dim: int, start: int, steps: Sequence[int], counts: Sequence[int]) -> Span:
        """Return positions start + step * index + ... of a dimension, which becomes one dimension for each step."""
        lattice = self.lattice.gridded(dim, start, steps, counts)
        varies = self.lo.shape[dim] > 1
        index = lattices.grid(start, steps, counts) if varies else np.zeros((1,) * len(steps), np.int64)
        changed = range(dim, dim + len(steps))
        return _compress(self.lo.take(index, axis=dim), self.hi.take(index, axis=dim), changed, lattice)

    def taken(self, dim: int, index: Ints, lattice: Lattice | None = None) -> Span:
        """Return these positions (n,) of a dimension; the lattice is listed again unless one is passed."""
        lattice = lattice or self.lattice.listed(dim, index)
        if self.lo.shape[dim] == 1:
            return Span(self.lo, self.hi, lattice)
        return _compress(self.lo.take(index, axis=dim), self.hi.take(index, axis=dim), (dim,), lattice)

    def reduced(self, dims: Sequence[int], shape: Shape) -> Span:
        """Return the union over some dimensions, which keep the extent 1."""
        lattice = self.lattice
        lo, hi = self.lo, self.hi
        for dim in dims:
            lattice = lattice.coarse(dim, shape[dim])
            if lo.shape[dim] > 1:
                lo, hi = lo.min(axis=dim, keepdims=True), hi.max(axis=dim, keepdims=True)
        return self if lattice is self.lattice and lo is self.lo else Span(lo, hi, lattice)

    def accumulated(self, dim: int, size: int) -> Span:
        """Return the union of each position with all before it."""
        full = self.lo.repeat(size, dim) if self.lo.shape[dim] == 1 else self.lo
        top = self.hi.repeat(size, dim) if self.hi.shape[dim] == 1 else self.hi
        lo, hi = np.minimum.accumulate(full, axis=dim), np.maximum.accumulate(top, axis=dim)
        return _compress(lo, hi, (dim,), self.lattice.coarse(dim, size))

    def permuted(self, order: Sequence[int]) -> Span:
        """Return the dimensions in another order."""
        return Span(self.lo.transpose(order), self.hi.transpose(order), self.lattice.permuted(order))

    def broadcast(self, old: Shape, new: Shape) -> Span:
        """Return the span of a tensor of shape `old` expanded to `new`, as elementwise operators do."""
        lattice = self.lattice
        extra = len(new) - len(old)
        if extra:
            front = (None,) * extra
            lattice = Lattice(lattice.lo[front], lattice.hi[front], (0,) * extra + lattice.shift)
        for dim, size in enumerate(old, start=extra):
            if size == 1 and new[dim] != 1:
                lattice = lattice.first(dim)
        if not extra:
            return self if lattice is self.lattice else Span(self.lo, self.hi, lattice)
        return Span(self.lo[front], self.hi[front], lattice)

    def reshaped(self, runs: Regrouping) -> Span:
        """Return the span of a tensor reshaped in row-major order; the runs are those of `regrouping`."""
        full: list[int] = []
        target: list[int] = []
        changed: list[int] = []
        lattice = self.lattice
        first = 0
        for old, new in runs:
            lattice = _regroup_lattice(lattice, len(target), old, new)
            extents = self.lo.shape[first : first + len(old)]
            varies = any(extent > 1 for extent in extents)
            full += old if varies else extents
            if varies and old != new:
                changed += range(len(target), len(target) + len(new))
            target += new if varies else [1] * len(new)
            first += len(old)
        lo, hi = (np.broadcast_to(bound, full).reshape(target) for bound in (self.lo, self.hi))
        return _compress(lo, hi, changed, lattice)

    def blanked(self, dim: int, nothing: Bools) -> Span:
        """Return the span with empty intervals at some positions (size,) of a dimension."""
        size = len(nothing)
        lo, hi = (b.repeat(size, dim) if b.shape[dim] == 1 else b for b in (self.lo, self.hi))
        return Span(*_blanked(lo, hi, nothing, dim), self.lattice)

    def emptied(self, where: Bools) -> Span:
        """Return the span with empty intervals wherever a mask, broadcast against the tensor, is True."""
        return Span(np.where(where, BEYOND, self.lo), np.where(where, -BEYOND, self.hi), self.lattice)

    def patched(self, region: Sequence[slice], shape: Shape, new: Span) -> Span:
        """Return the span with a box of the tensor (*shape) replaced by another of the same number of dimensions."""
        partial = [dim for dim, part in enumerate(region) if len(range(shape[dim])[part]) < shape[dim]]
        extents = [
            shape[dim] if dim in partial else max(pair)
            for dim, pair in enumerate(zip(self.lo.shape, new.lo.shape, strict=True))
        ]
        place = tuple(part if dim in partial else slice(None) for dim, part in enumerate(region))
        lo, hi = np.broadcast_to(self.lo, extents).copy(), np.broadcast_to(self.hi, extents).copy()
        lo[place], hi[place] = new.lo, new.hi
        lattice = lattices.patched(self.lattice, place, partial, shape, new.lattice)
        return _compress(lo, hi, range(len(shape)), lattice)

    def dense(self, shape: Shape) -> Ints:
        """Return every bound of every element, (4, *shape): lo, hi, and those of the lattice."""
        lo, hi = self.lattice.lo, self.lattice.hi
        far = self.lattice
        for dim, size in enumerate(shape):
            lo, hi = far.at(dim, np.arange(size))
            far = Lattice(lo, hi, (*far.shift[:dim], 0, *far.shift[dim + 1 :]))
        return np.stack([np.broadcast_to(bound, shape) for bound in (self.lo, self.hi, lo, hi)])

    @staticmethod
    def from_dense(bounds: Ints, spaced: Sequence[int]) -> Span:
        """Return the span of the bounds (4, *shape) of every element; along spaced dimensions a period is measured."""
        lattice = Lattice(bounds[2], bounds[3], (0,) * (bounds.ndim - 1))
        for dim in range(bounds.ndim - 1):
            lattice = lattice.measured(dim) if dim in spaced else lattice.spaced(dim)
        return _compress(bounds[0], bounds[1], range(bounds.ndim - 1), lattice)


def union(spans: Sequence[Span], shape: Shape) -> Span:
    """Return the union of spans that are all broadcast to this shape already."""
    first = spans[0]
    if all(span is first for span in spans):
        return first
    lo, hi = first.lo, first.hi
    for other in spans[1:]:
        lo, hi = np.minimum(lo, other.lo), np.maximum(hi, other.hi)
    return Span(lo, hi, lattices.union([span.lattice for span in spans], shape))


def joined(spans: Sequence[Span], dim: int, sizes: Sequence[int], shape: Shape) -> Span:
    """Return the span of tensors of these sizes concatenated along a dimension, with a result of this shape."""
    lo = lattices.concatenated([span.lo for span in spans], dim, sizes)
    hi = lattices.concatenated([span.hi for span in spans], dim, sizes)
    return _compress(lo, hi, (dim,), lattices.joined([span.lattice for span in spans], dim, sizes, shape))


def regrouping(old: Shape, new: Shape) -> Regrouping:
    """Return the shortest runs of dimensions that hold the same number of elements before and after a reshape.

    >>> regrouping((1, 8, 4, 4), (1, 2, 4, 16))
    (((1,), (1,)), ((8,), (2, 4)), ((4, 4), (16,)))
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        before, after = [old[i]], [new[j]]
        i, j = i + 1, j + 1
        while (left := prod(before)) != (right := prod(after)):
            if left < right:
                before.append(old[i])
                i += 1
            else:
                after.append(new[j])
                j += 1
        runs.append((before, after))
    if not runs:
        runs.append(([], []))
    runs[-1][0].extend(old[i:])
    runs[-1][1].extend(new[j:])
    return tuple((tuple(before), tuple(after)) for before, after in runs)


def _regroup_lattice(lattice: Lattice, dim: int, old: tuple[int, ...], new: tuple[int, ...]) -> Lattice:
    """Return a lattice after one run of a reshape from `dim` on: its dimensions merged into one, then split."""
    if old == new:
        return lattice
    size = old[0] if old else 1
    if not old:
        lattice = lattice._with_new(dim)
    for inner in old[1:]:
        lattice = lattice.merged(dim, size, inner)
        size *= inner
    for inner in reversed(new[1:]):
        size //= inner
        lattice = lattice.split(dim, size, inner)
    return lattice if new else lattice.first(dim)._without(dim)


def _blanked(lo: Ints, hi: Ints, nothing: Bools, dim: int) -> tuple[Ints, Ints]:
    """Return bounds with empty intervals at some positions of a dimension."""
    where = nothing.reshape([-1 if d == dim else 1 for d in range(lo.ndim)])
    return np.where(where, BEYOND, lo), np.where(where, -BEYOND, hi)


def _compress(lo: Ints, hi: Ints, dims: Sequence[int], lattice: Lattice) -> Span:
    """Return a span with extent 1 along those of the dimensions where nothing varies."""
    for dim in dims:
        if lo.shape[dim] > 1:
            one = (slice(None),) * dim + (slice(1),)
            if (lo == lo[one]).all() and (hi == hi[one]).all():
                lo, hi = lo[one], hi[one]
    return Span(lo, hi, lattice)
