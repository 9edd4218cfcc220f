"""Arithmetic on intervals: what each element of a tensor sees along one axis of the input. Numpy only.

Arrays are broadcast against the tensor's shape: their extent is 1 wherever the interval does not vary, so that a tensor
of 512 x 56 x 56 takes a few dozen integers. A union of intervals that vary along different dimensions, such as the
scores of an attention by query and by key, is kept as its parts until single elements are needed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

import spatialprobe.fields.lattice as lattices
from spatialprobe.fields import bounds
from spatialprobe.fields.bounds import Bounds
from spatialprobe.fields.lattice import Lattice
from spatialprobe.fields.regrouping import Regrouping, Shape, regroup_lattice
from spatialprobe.fields.spacing import BEYOND
from spatialprobe.fields.taps import Bools, Ints, Taps, affine


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """The half-open interval [lo, hi) of input positions along one axis, for each element of a tensor.

    It is the union of its parts, of which there is mostly one. `lo` and `hi` refer to the real input, [0, n), and are
    empty (lo > hi) where an element sees nothing of it. The lattices refer to an input without borders: what an element
    sees there is their union.
    """

    parts: tuple[Bounds, ...]  # one extent per dimension: its size, or 1
    lattices: tuple[Lattice, ...]  # mostly one, as of the parts

    @property
    def lo(self) -> Ints:
        """The first position of each element; its extents are sizes, or 1."""
        return reduce(np.minimum, (lo for lo, _ in self.parts))

    @property
    def hi(self) -> Ints:
        """The position after the last of each element."""
        return reduce(np.maximum, (hi for _, hi in self.parts))

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape of `lo` and of `hi`."""
        return np.broadcast_shapes(*(lo.shape for lo, _ in self.parts))

    def lattice_over(self, shape: Shape) -> Lattice:
        """Return what elements of a tensor of this shape would see of an input without borders."""
        return lattices.union(self.lattices, shape)

    def varies(self, dim: int) -> bool:
        """Return whether elements along a dimension see different things."""
        return self.extents[dim] > 1 or not all(lattice.is_still(dim) for lattice in self.lattices)

    @property
    def has_empty(self) -> bool:
        """Whether an element is empty: a union is where all its parts are."""
        return all(bool((lo > hi).any()) for lo, hi in self.parts) and bool((self.lo > self.hi).any())

    @staticmethod
    def identity(size: int, dim: int, ndim: int) -> Span:
        """Return the span of the input itself: each position along a dimension of this size sees itself."""
        lo = np.arange(size).reshape([size if d == dim else 1 for d in range(ndim)])
        zero = np.zeros((1,) * ndim, np.int64)
        return _single(lo, lo + 1, Lattice(zero, zero + 1, tuple(int(d == dim) for d in range(ndim))))

    @staticmethod
    def empty(ndim: int) -> Span:
        """Return the span of a constant."""
        beyond = np.full((1,) * ndim, BEYOND)
        return _single(beyond, -beyond, Lattice(beyond, -beyond, (0,) * ndim))

    def tapped(self, dim: int, taps: Taps, inputs: int, outputs: int, *, blanks: bool = True) -> Span:
        """Return the union over the taps of each output position along a dimension.

        An output without taps sees nothing. With `blanks=False`, this is left to the span of another axis where the
        intervals of this one do not vary along the dimension.
        """
        index, nothing = taps.table(inputs, outputs)

        def tap(lo: Ints, hi: Ints) -> Bounds:
            if lo.shape[dim] > 1:
                lo, hi = lo.take(index, axis=dim).min(axis=dim + 1), hi.take(index, axis=dim).max(axis=dim + 1)
            elif nothing is not None and blanks:
                lo, hi = lo.repeat(outputs, dim), hi.repeat(outputs, dim)
            else:
                return lo, hi
            return (lo, hi) if nothing is None else bounds.blank(lo, hi, nothing, dim)

        return self._each(tap, [one.tapped(dim, taps) for one in self.lattices], (dim,))

    def sliced(self, dim: int, start: int, step: int, outputs: int) -> Span:
        """Return positions start, start + step, ... of a dimension."""
        moved = [one.tapped(dim, affine(start, step)) for one in self.lattices]
        return self.taken(dim, np.arange(start, start + outputs * step, step), moved)

    def gridded(self, dim: int, start: int, steps: Sequence[int], counts: Sequence[int]) -> Span:
        """Return positions start + step * index + ... of a dimension, which becomes one dimension for each step."""
        gridded = [one.gridded(dim, start, steps, counts) for one in self.lattices]
        index = lattices.grid(start, steps, counts)
        still = np.zeros((1,) * len(steps), np.int64)

        def take(lo: Ints, hi: Ints) -> Bounds:
            places = index if lo.shape[dim] > 1 else still
            return lo.take(places, axis=dim), hi.take(places, axis=dim)

        return self._each(take, gridded, range(dim, dim + len(steps)))

    def taken(self, dim: int, index: Ints, moved: Sequence[Lattice] | None = None) -> Span:
        """Return these positions (n,) of a dimension; lattices are listed again unless they are passed."""
        listed = moved or [one.listed(dim, index) for one in self.lattices]

        def take(lo: Ints, hi: Ints) -> Bounds:
            return (lo, hi) if lo.shape[dim] == 1 else (lo.take(index, axis=dim), hi.take(index, axis=dim))

        return self._each(take, listed, (dim,))

    def reduced(self, dims: Sequence[int], shape: Shape) -> Span:
        """Return the union over some dimensions, which keep the extent 1."""
        coarse = self.lattices
        for dim in dims:
            coarse = tuple(one.coarse(dim, shape[dim]) for one in coarse)
        if len(coarse) > 1:
            kept = [1 if dim in dims else size for dim, size in enumerate(shape)]
            coarse = lattices.merge(coarse, kept)
        extents = self.extents
        varying = tuple(dim for dim in dims if extents[dim] > 1)
        if not varying:
            return self._with(coarse)
        return self._each(
            lambda lo, hi: (lo.min(axis=varying, keepdims=True), hi.max(axis=varying, keepdims=True)), coarse
        )

    def accumulated(self, dim: int, size: int) -> Span:
        """Return the union of each position with all before it."""

        def accumulate(lo: Ints, hi: Ints) -> Bounds:
            return np.minimum.accumulate(lo, axis=dim), np.maximum.accumulate(hi, axis=dim)

        return self._each(accumulate, [one.coarse(dim, size) for one in self.lattices], (dim,))

    def permuted(self, order: Sequence[int]) -> Span:
        """Return the dimensions in another order."""
        permuted = [one.permuted(order) for one in self.lattices]
        return self._each(lambda lo, hi: (lo.transpose(order), hi.transpose(order)), permuted)

    def broadcast(self, old: Shape, new: Shape) -> Span:
        """Return the span of a tensor of shape `old` expanded to `new`, as elementwise operators do."""
        spread, extra = self.lattices, len(new) - len(old)
        if extra:
            front = (None,) * extra
            spread = tuple(Lattice(one.lo[front], one.hi[front], (0,) * extra + one.shift) for one in spread)
        for dim, size in enumerate(old, start=extra):
            if size == 1 and new[dim] != 1:
                spread = tuple(one.first(dim) for one in spread)
        if not extra:
            return self._with(spread)
        return self._each(lambda lo, hi: (lo[front], hi[front]), spread)

    def reshaped(self, runs: Regrouping) -> Span:
        """Return the span of a tensor reshaped in row-major order; the runs are those of `regrouping`."""
        regrouped, place = self.lattices, 0
        for old, new in runs:
            if old != new:
                regrouped = tuple(regroup_lattice(one, place, old, new) for one in regrouped)
            place += len(new)
        return Span(bounds.merge([bounds.reshape(lo, hi, runs) for lo, hi in self.parts]), regrouped)

    def blanked(self, dim: int, nothing: Bools) -> Span:
        """Return the span with empty intervals at some positions (size,) of a dimension."""
        size = len(nothing)

        def blank(lo: Ints, hi: Ints) -> Bounds:
            lo, hi = (bound.repeat(size, dim) if bound.shape[dim] == 1 else bound for bound in (lo, hi))
            return bounds.blank(lo, hi, nothing, dim)

        return self._each(blank, self.lattices)

    def emptied(self, where: Sequence[Bools]) -> Span:
        """Return the span with empty intervals wherever a mask is True: one for all parts, or one for each."""
        count = max(len(where), len(self.parts))
        masks = list(where) * (count // len(where))
        parts = self.parts * (count // len(self.parts))
        made = [
            (np.where(mask, BEYOND, lo), np.where(mask, -BEYOND, hi)) if mask.any() else (lo, hi)
            for mask, (lo, hi) in zip(masks, parts, strict=True)
        ]
        return Span(bounds.merge(made), self.lattices)

    def patched(self, region: Sequence[slice], shape: Shape, here: Span, new: Span) -> Span:
        """Return the span with a box of the tensor (*shape), `here`, replaced by another of the same shape."""
        partial = [dim for dim, part in enumerate(region) if len(range(shape[dim])[part]) < shape[dim]]
        extents = [
            shape[dim] if dim in partial else max(pair)
            for dim, pair in enumerate(zip(self.extents, new.extents, strict=True))
        ]
        place = tuple(part if dim in partial else slice(None) for dim, part in enumerate(region))
        patched = lattices.patched(self.lattices, place, partial, shape, new.lattices)
        if here.has_parts_of(new):
            return Span(self.parts, patched)
        lo, hi = np.broadcast_to(self.lo, extents).copy(), np.broadcast_to(self.hi, extents).copy()
        lo[place], hi[place] = new.lo, new.hi
        return Span((bounds.compact(lo, hi, range(len(shape))),), patched)

    def is_like(self, other: Span) -> bool:
        """Return whether two spans of a tensor consist of the same parts, and continue alike beyond the borders."""
        alike = len(self.lattices) == len(other.lattices) and all(map(Lattice.is_like, self.lattices, other.lattices))
        return alike and self.has_parts_of(other)

    def has_parts_of(self, other: Span) -> bool:
        """Return whether two spans of a tensor consist of the same parts."""
        return len(self.parts) == len(other.parts) and all(
            bounds.is_nested((one,), (another,)) and bool((one == another).all())
            for pair in zip(self.parts, other.parts, strict=True)
            for one, another in zip(*pair, strict=True)
        )

    def dense(self, shape: Shape) -> Ints:
        """Return every bound of every element, (4, *shape): lo, hi, and those of the lattice."""
        far = self.lattice_over(shape)
        lo, hi = far.lo, far.hi
        for dim, size in enumerate(shape):
            lo, hi = far.at(dim, np.arange(size))
            far = Lattice(lo, hi, (*far.shift[:dim], 0, *far.shift[dim + 1 :]))
        return np.stack([np.broadcast_to(bound, shape) for bound in (self.lo, self.hi, lo, hi)])

    @staticmethod
    def from_dense(values: Ints, spaced: Sequence[int]) -> Span:
        """Return the span of the bounds (4, *shape) of every element; along spaced dimensions a period is measured."""
        lattice = Lattice(values[2], values[3], (0,) * (values.ndim - 1))
        for dim in range(values.ndim - 1):
            lattice = lattice.measured(dim) if dim in spaced else lattice.spaced(dim)
        return _compress(values[0], values[1], range(values.ndim - 1), lattice)

    def _with(self, lattices: tuple[Lattice, ...]) -> Span:
        """Return the span with other lattices, or itself if they are its own."""
        return self if all(map(operator.is_, lattices, self.lattices)) else Span(self.parts, lattices)

    def _each(
        self, change: Callable[[Ints, Ints], Bounds], lattices: Iterable[Lattice], dims: Iterable[int] = ()
    ) -> Span:
        """Return the span with a change of the bounds of each part, after which some dimensions may not vary."""
        changed = tuple(dims)
        return Span(bounds.merge([bounds.compact(*change(lo, hi), changed) for lo, hi in self.parts]), tuple(lattices))


def union(reaches: Sequence[Sequence[Span]], shape: Shape) -> tuple[Span, ...]:
    """Return the union, axis by axis, of spans that are all broadcast to this shape already.

    Parts with the same number are of the same elements on every axis. Those that vary along the same dimensions, or
    along some of another's, become one.
    """
    parts: list[list[Bounds]] = []
    for spans in reaches:
        for new in parts_of(spans):
            place = next((k for k, old in enumerate(parts) if all(map(bounds.is_nested, old, new))), None)
            if place is None:
                parts.append(list(new))
            else:
                parts[place] = [bounds.unite(pair) for pair in zip(parts[place], new, strict=True)]
    return tuple(
        Span(
            bounds.merge([part[axis] for part in parts]),
            lattices.merge([one for span in spans for one in span.lattices], shape),
        )
        for axis, spans in enumerate(zip(*reaches, strict=True))
    )


def parts_of(spans: Sequence[Span]) -> list[tuple[Bounds, ...]]:
    """Return the parts of the spans of all axes together: one for each number, with the bounds along each axis.

    The one part of an axis along which nothing varies goes with each of the others'. Where numbers differ otherwise,
    all parts become one.
    """
    count = max(len(span.parts) for span in spans)
    if any(len(span.parts) not in (1, count) for span in spans):
        return [tuple((span.lo, span.hi) for span in spans)]
    return list(zip(*(span.parts * (count // len(span.parts)) for span in spans), strict=True))


def joined(spans: Sequence[Span], dim: int, sizes: Sequence[int], shape: Shape) -> Span:
    """Return the span of tensors of these sizes concatenated along a dimension, with a result of this shape."""
    lo = lattices.concatenated([span.lo for span in spans], dim, sizes)
    hi = lattices.concatenated([span.hi for span in spans], dim, sizes)
    shapes = [(*shape[:dim], size, *shape[dim + 1 :]) for size in sizes]
    far = [span.lattice_over(part) for span, part in zip(spans, shapes, strict=True)]
    return _compress(lo, hi, (dim,), lattices.joined(far, dim, sizes, shape))


def _compress(lo: Ints, hi: Ints, dims: Iterable[int], lattice: Lattice) -> Span:
    """Return a span with extent 1 along those of the dimensions where nothing varies."""
    return Span((bounds.compact(lo, hi, dims),), (lattice,))


def _single(lo: Ints, hi: Ints, lattice: Lattice) -> Span:
    """Return a span of one part."""
    return Span(((lo, hi),), (lattice,))
