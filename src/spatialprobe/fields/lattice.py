"""Periodic intervals: what elements would see if the input went on beyond its borders, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd, lcm, prod

import numpy as np

import spatialprobe.fields.spacing as spacing
from spatialprobe.fields.spacing import BEYOND, FEWEST, LONGEST_MEASURED
from spatialprobe.fields.taps import NONE, Ints, Taps, affine

_MOST_LISTED = 1 << 16  # entries of a lattice that are listed along several dimensions
_MOST_MERGED = 1 << 18  # entries after two dimensions became one, as windows and the tokens within them do
_LONGEST = 4096  # entries along one dimension: a longer period is replaced by the nearest of at most this length


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """An interval for each index of a tensor, and for all indices beyond it.

    Along a dimension there are p entries, and the interval at index i is entry i mod p, moved by (i // p) * shift.
    One entry and no shift means that nothing changes along the dimension; one entry with a shift is an even spacing.
    """

    lo: Ints  # one extent per dimension: its period
    hi: Ints  # exclusive
    shift: tuple[int, ...]  # input positions per period, one per dimension

    def at(self, dim: int, index: Ints) -> tuple[Ints, Ints]:
        """Return the bounds at these indices along a dimension, which the axes of `index` replace; NONE is empty."""
        period, shift = self.lo.shape[dim], self.shift[dim]
        if not shift and period == 1:
            shape = self.lo.shape[:dim] + (1,) * index.ndim + self.lo.shape[dim + 1 :]
            zeros = np.zeros([*(1,) * dim, *index.shape, *(1,) * (self.lo.ndim - dim - 1)], np.int64)
            lo, hi = self.lo.reshape(shape) + zeros, self.hi.reshape(shape) + zeros
        else:
            turns, rest = np.divmod(index, period)
            moved = (turns * shift).reshape(turns.shape + (1,) * (self.lo.ndim - dim - 1))
            lo, hi = self.lo.take(rest, axis=dim) + moved, self.hi.take(rest, axis=dim) + moved
        missing = index == NONE
        if missing.any():
            nothing = missing.reshape(missing.shape + (1,) * (self.lo.ndim - dim - 1))
            lo, hi = np.where(nothing, BEYOND, lo), np.where(nothing, -BEYOND, hi)
        return lo, hi

    def is_still(self, dim: int) -> bool:
        """Return whether nothing changes along a dimension."""
        return self.lo.shape[dim] == 1 and not self.shift[dim]

    def is_like(self, other: Lattice) -> bool:
        """Return whether another lattice has the same entries and shifts."""
        return self.shift == other.shift and np.array_equal(self.lo, other.lo) and np.array_equal(self.hi, other.hi)

    def tapped(self, dim: int, taps: Taps) -> Lattice:
        """Return the union over the taps of each output position; a period that is too long becomes the nearest."""
        period, shift = self.lo.shape[dim], self.shift[dim]
        turns = period // gcd(period, taps.advance)  # repetitions of the taps' period until the entries repeat too
        entries, moved = taps.every * turns, shift * (taps.advance * turns // period)
        if entries > _LONGEST:
            if not shift:
                return self.coarse(dim, period)
            entries, moved = _find_nearest_period(Fraction(moved, entries))
        lo, hi = self.at(dim, taps.positions(np.arange(entries)))
        shifts = _replace_shift(self.shift, dim, moved)
        return Lattice(lo.min(axis=dim + 1), hi.max(axis=dim + 1), shifts).simplified(dim)

    def listed(self, dim: int, index: Ints) -> Lattice:
        """Return one entry for each of these indices (n,); an even spacing stays one where the indices are regular."""
        rule = spacing.regularity(index) if self.shift[dim] else None
        if rule is not None:
            period, advance = rule
            first = index[:period]
            return self.tapped(
                dim, Taps(lambda out: (first[out % period] + out // period * advance)[:, None], period, advance)
            )
        lo, hi = self.at(dim, index)
        plain = Lattice(lo, hi, _replace_shift(self.shift, dim, 0))
        return plain.measured(dim) if self.shift[dim] else plain.spaced(dim)

    def gridded(self, dim: int, start: int, steps: Sequence[int], counts: Sequence[int]) -> Lattice:
        """Return positions start + step * index + ... of a dimension, which becomes one dimension for each step."""
        period, shift = self.lo.shape[dim], self.shift[dim]
        extents = [period // gcd(period, step) for step in steps]
        if prod(extents) > _LONGEST:
            size = 1 + start + sum(step * (count - 1) for step, count in zip(steps, counts, strict=True))
            return self.coarse(dim, size).gridded(dim, 0, steps, counts)
        lo, hi = self.at(dim, grid(start, steps, extents))
        moved = [shift * (step * extent // period) for step, extent in zip(steps, extents, strict=True)]
        made = Lattice(lo, hi, (*self.shift[:dim], *moved, *self.shift[dim + 1 :]))
        for new in range(dim, dim + len(steps)):
            made = made.simplified(new)
        return made

    def coarse(self, dim: int, size: int) -> Lattice:
        """Return the union over a dimension of this size, which keeps one entry."""
        if self.lo.shape[dim] == 1 and not self.shift[dim]:
            return self
        lo, hi = self.at(dim, np.arange(size))
        return Lattice(
            lo.min(axis=dim, keepdims=True), hi.max(axis=dim, keepdims=True), _replace_shift(self.shift, dim, 0)
        )

    def first(self, dim: int) -> Lattice:
        """Return the entry at index 0 for all indices: a dimension of size one, broadcast."""
        if self.lo.shape[dim] == 1 and not self.shift[dim]:
            return self
        where = (slice(None),) * dim + (slice(1),)
        return Lattice(self.lo[where], self.hi[where], _replace_shift(self.shift, dim, 0))

    def merged(self, dim: int, outer: int, inner: int) -> Lattice:
        """Return the lattice with a dimension and the next, of these sizes, merged into one in row-major order."""
        if outer == 1:
            return self.first(dim)._without(dim)
        if inner == 1:
            return self.first(dim + 1)._without(dim + 1)
        constant = not self.shift[dim + 1] and self.lo.shape[dim + 1] == 1
        if constant and self.lo.shape[dim] == 1 and not self.shift[dim]:
            return self._without(dim + 1)
        if self.lo.size // self.lo.shape[dim + 1] * inner > _MOST_MERGED:
            return self.coarse(dim, outer).coarse(dim + 1, inner)._without(dim + 1)
        lo, hi = self.at(dim + 1, np.arange(inner))
        shape = (*lo.shape[:dim], lo.shape[dim] * inner, *lo.shape[dim + 2 :])
        shift = (*self.shift[: dim + 1], *self.shift[dim + 2 :])
        return Lattice(lo.reshape(shape), hi.reshape(shape), shift).simplified(dim)

    def split(self, dim: int, outer: int, inner: int) -> Lattice:
        """Return the lattice with a dimension split into two of these sizes."""
        if outer == 1:
            return self._with_new(dim)
        if inner == 1:
            return self._with_new(dim + 1)
        period, shift = self.lo.shape[dim], self.shift[dim]
        turns = period // gcd(period, inner)
        repeats = inner % period == 0 and period < inner  # within the inner dimension; otherwise all of it is listed
        grid = np.arange(turns)[:, None] * inner + np.arange(period if repeats else inner)
        lo, hi = self.at(dim, grid)
        moved = (shift * (turns * inner // period), shift if repeats else 0)
        whole = Lattice(lo, hi, (*self.shift[:dim], *moved, *self.shift[dim + 1 :])).simplified(dim)
        return whole.simplified(dim + 1) if repeats else whole.spaced(dim + 1, fewest=2)

    def permuted(self, order: Sequence[int]) -> Lattice:
        """Return the dimensions in another order."""
        return Lattice(self.lo.transpose(order), self.hi.transpose(order), tuple(self.shift[dim] for dim in order))

    def simplified(self, dim: int) -> Lattice:
        """Return the same intervals with the shortest period along a dimension."""
        period, shift = self.lo.shape[dim], self.shift[dim]
        for shorter in _proper_divisors(period):
            if shorter == period or (shift * shorter) % period:
                continue
            moved = shift * shorter // period
            if spacing.repeats(self.lo, dim, shorter, moved) and spacing.repeats(self.hi, dim, shorter, moved):
                where = (slice(None),) * dim + (slice(shorter),)
                return Lattice(self.lo[where], self.hi[where], _replace_shift(self.shift, dim, moved))
        return self

    def spaced(self, dim: int, fewest: int = FEWEST) -> Lattice:
        """Return listed intervals, one for each index, as an even spacing if there are enough and all keep to it."""
        size = self.lo.shape[dim]
        for period in spacing.likely_periods(self.lo, dim, range(size), LONGEST_MEASURED) if size >= fewest else ():
            if spacing.holds(self.lo, self.hi, dim, period, range(size)):
                return self._from_entries(dim, 0, period)
        return self.simplified(dim)

    def measured(self, dim: int) -> Lattice:
        """Return listed intervals as a lattice again: the period that holds in the middle half, or in the longest part.

        The effects of borders (such as circular padding) are left out, since a unit far from them would not see them;
        so are seams, where copies or parts meet.
        """
        copy = spacing.one_copy(self.lo, self.hi, dim)
        one = self if copy is None else self._from_entries(dim, 0, copy, 0)
        return one._spacing(dim) or (self.coarse(dim, self.lo.shape[dim]) if copy is None else one)

    def _spacing(self, dim: int) -> Lattice | None:
        """Return listed intervals as an even spacing or one that repeats; None if they have none."""
        lo, hi, size = self.lo, self.hi, self.lo.shape[dim]
        for period in spacing.likely_periods(lo, dim, range(size), min(size // 3, LONGEST_MEASURED)):
            if spacing.holds(lo, hi, dim, period, range(size)):
                return self._from_entries(dim, 0, period)
        middle = range(size // 4, size - size // 4)
        for period in range(1, min(len(middle) // 2, LONGEST_MEASURED) + 1):
            held = spacing.holds(lo, hi, dim, period, middle)
            start = middle[0] if held else spacing.longest_run(lo, hi, dim, period)
            if start is not None:
                return self._from_entries(dim, start, period)
        return None

    def _from_entries(self, dim: int, start: int, period: int, moved: int | None = None) -> Lattice:
        """Return the lattice that continues the listed intervals from a start on, with the shift that they have there.

        A shift `moved` is used instead if one is passed.
        """
        if moved is None:
            moved = spacing.step(self.lo.take(np.arange(start, start + period + 1), axis=dim), dim, period)
        entries, shift = np.arange(start, start + period), _replace_shift(self.shift, dim, moved)
        found = Lattice(self.lo.take(entries, axis=dim), self.hi.take(entries, axis=dim), shift)
        return Lattice(*found.at(dim, np.arange(period) - start), shift)

    def _without(self, dim: int) -> Lattice:
        """Return the lattice without a dimension of one entry and no shift."""
        return Lattice(self.lo.squeeze(dim), self.hi.squeeze(dim), (*self.shift[:dim], *self.shift[dim + 1 :]))

    def _with_new(self, dim: int) -> Lattice:
        """Return the lattice with a new dimension along which nothing changes."""
        shift = (*self.shift[:dim], 0, *self.shift[dim:])
        return Lattice(np.expand_dims(self.lo, dim), np.expand_dims(self.hi, dim), shift)


def aligned(lattices: Sequence[Lattice], dim: int, size: int) -> list[Lattice]:
    """Return the lattices with a common period and shift along a dimension, or unions over it where spacings differ.

    A constant, which sees nothing anywhere, is compatible with any spacing.
    """
    if len({(lattice.lo.shape[dim], lattice.shift[dim]) for lattice in lattices}) == 1:
        return list(lattices)
    spacing = [lattice for lattice in lattices if not (lattice.lo > BEYOND // 2).all()] or lattices
    common = lcm(*(lattice.lo.shape[dim] for lattice in spacing))
    moved = {lattice.shift[dim] * (common // lattice.lo.shape[dim]) for lattice in spacing}
    if len(moved) > 1 or common > _LONGEST:
        return [lattice.coarse(dim, size) for lattice in lattices]
    index, shift = np.arange(common), moved.pop()
    return [
        one if not shift and one.is_still(dim) else Lattice(*one.at(dim, index), _replace_shift(one.shift, dim, shift))
        for one in lattices
    ]


def union(lattices: Sequence[Lattice], sizes: Sequence[int]) -> Lattice:
    """Return the union of lattices over a tensor of these sizes."""
    return lattices[0] if len(lattices) == 1 else _unite(_align(lattices, sizes))


def merge(lattices: Sequence[Lattice], sizes: Sequence[int]) -> tuple[Lattice, ...]:
    """Return the union of lattices over a tensor of these sizes: one, unless that is a much longer list than they are.

    So are the scores of an attention within windows, listed by query and by key.
    """
    if len(lattices) == 1:
        return tuple(lattices)
    alike = _align(lattices, sizes)
    entries = prod(np.broadcast_shapes(*(one.lo.shape for one in alike)))
    return (_unite(alike),) if entries <= max(_MOST_LISTED, *(one.lo.size for one in alike)) else tuple(alike)


def _align(lattices: Sequence[Lattice], sizes: Sequence[int]) -> Sequence[Lattice]:
    """Return lattices with common periods and shifts along all dimensions."""
    for dim, size in enumerate(sizes):
        lattices = aligned(lattices, dim, size)
    return lattices


def _unite(lattices: Sequence[Lattice]) -> Lattice:
    """Return the union of lattices with common periods and shifts; a period is 1 where nothing changes."""
    lo, hi = reduce(np.minimum, [one.lo for one in lattices]), reduce(np.maximum, [one.hi for one in lattices])
    made = Lattice(lo, hi, lattices[0].shift)
    for dim, period in enumerate(lo.shape):
        if period > 1:
            made = made.simplified(dim)
    return made


def joined(lattices: Sequence[Lattice], dim: int, sizes: Sequence[int], shape: Sequence[int]) -> Lattice:
    """Return lattices of these sizes concatenated along a dimension of a tensor of this shape.

    A constant beside pixels is padding, which continues their spacing; beside a flattened image it is a class token,
    which sees nothing.
    """
    for other, size in enumerate(shape):
        if other != dim:
            lattices = aligned(lattices, other, size)
    spacings = [lattice for lattice in lattices if lattice.shift[dim]]
    tokens = len(spacings) < len(lattices) and all(lattice.lo.shape[dim] > 1 for lattice in spacings)
    pieces = [one.at(dim, np.arange(size)) for one, size in zip(lattices, sizes, strict=True)]
    lo, hi = (concatenated([piece[side] for piece in pieces], dim, sizes) for side in (0, 1))
    whole = Lattice(lo, hi, _replace_shift(lattices[0].shift, dim, 0))
    return whole.measured(dim) if spacings and not tokens else whole.spaced(dim)


def patched(
    old: Sequence[Lattice],
    place: tuple[slice, ...],
    partial: Sequence[int],
    shape: Sequence[int],
    new: Sequence[Lattice],
) -> tuple[Lattice, ...]:
    """Return lattices with a box of the tensor (*shape) replaced; the box is partial along some dimensions.

    Where that takes a large list, dimensions along which neither changes are left out: old and new are united there. If
    the list is still large, as of the scores of an attention to which those of positions are added for all tokens but
    the first, they are united everywhere.
    """
    still = [dim for dim in partial if all(one.is_still(dim) for one in (*old, *new))]
    rest = [dim for dim in partial if dim not in still]
    if prod(shape[dim] for dim in rest) > _MOST_LISTED and all(place[dim].step in (None, 1) for dim in rest):
        for dim in rest:
            taps = affine(-range(shape[dim])[place[dim]].start, 1)
            new = [one.tapped(dim, taps) for one in new]
        return merge([*old, *new], shape)
    sizes = [len(range(size)[part]) for size, part in zip(shape, place, strict=True)]
    before, over = union(old, shape), union(new, sizes)
    if still and prod(shape[dim] for dim in partial) > _MOST_LISTED:
        place = tuple(slice(None) if dim in still else part for dim, part in enumerate(place))
        return merge([before, _patch(before, place, rest, shape, over)], shape)
    return (_patch(before, place, partial, shape, over),)


def _patch(
    old: Lattice, place: tuple[slice, ...], partial: Sequence[int], shape: Sequence[int], new: Lattice
) -> Lattice:
    """Return a lattice with a box of the tensor (*shape) replaced; the box is partial along some dimensions."""
    spaced = [dim for dim in partial if old.shift[dim] or new.shift[dim]]
    for dim, size in enumerate(shape):
        if dim in partial:
            old = Lattice(*old.at(dim, np.arange(size)), _replace_shift(old.shift, dim, 0))
            count = len(range(size)[place[dim]])
            new = Lattice(*new.at(dim, np.arange(count)), _replace_shift(new.shift, dim, 0))
        else:
            old, new = aligned([old, new], dim, size)
    extents = [max(pair) for pair in zip(old.lo.shape, new.lo.shape, strict=True)]
    for dim in partial:
        extents[dim] = shape[dim]
    lo, hi = np.broadcast_to(old.lo, extents).copy(), np.broadcast_to(old.hi, extents).copy()
    lo[place], hi[place] = new.lo, new.hi
    made = Lattice(lo, hi, old.shift)
    for dim in range(len(shape)):
        settled = made.measured if dim in spaced else made.spaced if dim in partial else made.simplified
        made = settled(dim)
    return made


def grid(start: int, steps: Sequence[int], counts: Sequence[int]) -> Ints:
    """Return start + step * index + ..., with one dimension for each step.

    >>> grid(1, (4, 1), (2, 3)).tolist()
    [[1, 2, 3], [5, 6, 7]]
    """
    index = np.array(start)
    for step, count in zip(steps, counts, strict=True):
        index = index[..., None] + step * np.arange(count)
    return index


def concatenated(bounds: Sequence[Ints], dim: int, sizes: Sequence[int]) -> Ints:
    """Return bounds of these sizes concatenated along a dimension, and broadcast along all others."""
    extents = np.broadcast_shapes(*((*bound.shape[:dim], 1, *bound.shape[dim + 1 :]) for bound in bounds))
    full = ((*extents[:dim], size, *extents[dim + 1 :]) for size in sizes)
    return np.concatenate([np.broadcast_to(bound, shape) for bound, shape in zip(bounds, full, strict=True)], axis=dim)


def _find_nearest_period(spacing: Fraction) -> tuple[int, int]:
    """Return a number of entries after which they nearly repeat, and the whole number of positions they have moved."""
    nearest = spacing.limit_denominator(_LONGEST)
    repeats = _LONGEST // nearest.denominator  # many, as some entries may be larger than others
    return nearest.denominator * repeats, nearest.numerator * repeats


def _proper_divisors(number: int) -> list[int]:
    """Return the proper divisors of a small number; of a large one, 1."""
    return [k for k in range(1, number // 2 + 1) if number % k == 0] if number <= 64 else [1]


def _replace_shift(shift: tuple[int, ...], dim: int, value: int) -> tuple[int, ...]:
    """Return the shifts with another value for one dimension."""
    return (*shift[:dim], value, *shift[dim + 1 :])
