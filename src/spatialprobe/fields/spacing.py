"""The spacing of listed intervals: the period that they have everywhere, far from borders, or between seams."""

from __future__ import annotations

import numpy as np

from spatialprobe.fields.taps import Bools, Ints

BEYOND = 2**40  # an empty interval reaches from here down to -BEYOND, so that any union with it is the other
LONGEST_MEASURED = 64  # entries of the longest period that is tried
FEWEST = 4  # entries for which an even spacing is no coincidence, as it may be for few channels of different crops


def repeats(bound: Ints, dim: int, period: int, moved: int) -> bool:
    """Return whether entries one period apart differ by exactly this amount; empty ones must stay empty."""
    along = (slice(None),) * dim
    later, earlier = bound[(*along, slice(period, None))], bound[(*along, slice(-period))]
    return bool(((later - earlier == moved) | ((later == earlier) & (abs(later) > BEYOND // 2))).all())


def step(bound: Ints, dim: int, period: int) -> int:
    """Return by how much the first filled entry moves in one period."""
    first = bound.take([0], axis=dim)
    steps = (bound.take([period], axis=dim) - first)[abs(first) < BEYOND // 2]
    return int(steps[0]) if len(steps) else 0


def holds(lo: Ints, hi: Ints, dim: int, period: int, where: range) -> bool:
    """Return whether intervals repeat at these positions, moved by as much as the first is."""
    line = _line(lo, dim)[where.start : where.stop]
    if abs(line[0]) < BEYOND // 2 and not repeats(line, 0, period, step(line, 0, period)):  # a quick check first
        return False
    inside = np.arange(where.start, where.stop)
    lo, hi = lo.take(inside, axis=dim), hi.take(inside, axis=dim)
    moved = step(lo, dim, period)
    return repeats(lo, dim, period, moved) and repeats(hi, dim, period, moved)


def likely_periods(lo: Ints, dim: int, where: range, longest: int) -> list[int]:
    """Return the periods, of at most this many entries, that may hold at these positions; most others are left out.

    Those that hold move the first entry by as much as the one a period later, and as the last one.
    """
    line = _line(lo, dim)[where.start : where.stop]
    periods = np.arange(1, min(longest, len(line) // 2) + 1)
    if not len(periods) or abs(line[0]) > BEYOND // 2:
        return list(map(int, periods))
    if (abs(line) < BEYOND // 2).all():  # steps repeat too: a period is longer than the even spacing at the front
        steps = np.diff(line)
        odd = np.flatnonzero(steps != steps[0])
        periods = periods[periods > odd[0]] if len(odd) else periods[:1]
    moved = line[periods] - line[0]
    right = np.ones(len(periods), np.bool_)
    for later in (np.minimum(2 * periods, len(line) - 1), np.full(len(periods), len(line) - 1)):
        earlier = line[later - periods]
        right &= (line[later] - earlier == moved) | ((line[later] == earlier) & (abs(earlier) > BEYOND // 2))
    return list(map(int, periods[right]))


def one_copy(lo: Ints, hi: Ints, dim: int) -> int | None:
    """Return the number of entries after which intervals repeat without being moved; None if they do not."""
    line = _line(lo, dim)
    for copy in map(int, np.flatnonzero(line[1 : len(line) // 2 + 1] == line[0]) + 1):
        if repeats(lo, dim, copy, 0) and repeats(hi, dim, copy, 0):
            return copy
    return None


def longest_run(lo: Ints, hi: Ints, dim: int, period: int) -> int | None:
    """Return where the longest part with this period begins; None if there are more than two seams."""
    line = _line(lo, dim)
    if 4 * period > len(line):
        return None
    steps = line[period:] - line[:-period]
    filled = (abs(line[:-period]) < BEYOND // 2) & (abs(line[period:]) < BEYOND // 2)
    values, counts = np.unique(steps[filled], return_counts=True)
    moved = int(values[counts.argmax()]) if len(values) else 0
    right = filled & _moves(lo, dim, period, moved) & _moves(hi, dim, period, moved)
    seams = (filled & ~right).sum()
    if not moved or seams > 2 * period or right.sum() < max(FEWEST, 3 * seams):
        return None
    edges = np.flatnonzero(np.diff(right.astype(np.int8), prepend=0, append=0))
    return int(edges[::2][np.argmax(edges[1::2] - edges[::2])])


def regularity(index: Ints) -> tuple[int, int] | None:
    """Return the number of indices (n,) after which they repeat, and by how much they move; None if they do not.

    >>> regularity(np.array([0, 1, 2, 4, 5, 6, 8, 9, 10]))  # windows of three
    (3, 4)
    """
    if len(index) < 2:
        return None
    steps = np.diff(index)
    others = np.flatnonzero(steps != steps[0])
    likely = int(others[0]) + 1 if len(others) else 1  # even steps, then a different one
    alike = np.flatnonzero(steps[1:] == steps[0])[:LONGEST_MEASURED] + 1
    for period in (likely, *map(int, alike)):
        moved = index[period:] - index[:-period]
        if 2 * period <= len(index) and moved[0] and (moved == moved[0]).all():
            return period, int(moved[0])
    return None


def _moves(bound: Ints, dim: int, period: int, moved: int) -> Bools:
    """Return a mask of the positions at which all entries move by this much in one period, or are empty."""
    size = bound.shape[dim]
    later, earlier = bound.take(np.arange(period, size), axis=dim), bound.take(np.arange(size - period), axis=dim)
    right = (later - earlier == moved) | ((later == earlier) & (abs(later) > BEYOND // 2))
    everywhere: Bools = right.all(axis=tuple(other for other in range(bound.ndim) if other != dim))
    return everywhere


def _line(bound: Ints, dim: int) -> Ints:
    """Return the bounds (size,) along a dimension, at the first index of all others."""
    line: Ints = bound[tuple(slice(None) if other == dim else 0 for other in range(bound.ndim))]
    return line
