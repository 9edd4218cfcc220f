"""Bounds of intervals, lowest and highest, as a pair of arrays. Numpy only.

Their extent is 1 along each dimension along which no interval differs from the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import prod
from typing import TypeAlias

import numpy as np

from spatialprobe.fields.regrouping import Regrouping
from spatialprobe.fields.spacing import BEYOND
from spatialprobe.fields.taps import Bools, Ints

Bounds: TypeAlias = tuple[Ints, Ints]  # lo and hi

_LARGEST = 1 << 16  # elements of a union that are computed at once; of a larger one the parts are kept


def compact(lo: Ints, hi: Ints, dims: Iterable[int]) -> Bounds:
    """Return bounds with extent 1 along those of the dimensions where nothing varies."""
    for dim in dims:
        if lo.shape[dim] > 1:
            one, last = (slice(None),) * dim + (slice(1),), (slice(None),) * dim + (slice(-1, None),)
            if (lo[last] != lo[one]).any() or (hi[last] != hi[one]).any():
                continue
            if (lo == lo[one]).all() and (hi == hi[one]).all():
                lo, hi = lo[one], hi[one]
    return lo, hi


def blank(lo: Ints, hi: Ints, nothing: Bools, dim: int) -> tuple[Ints, Ints]:
    """Return bounds with empty intervals at some positions of a dimension."""
    where = nothing.reshape([-1 if d == dim else 1 for d in range(lo.ndim)])
    return np.where(where, BEYOND, lo), np.where(where, -BEYOND, hi)


def reshape(lo: Ints, hi: Ints, runs: Regrouping) -> Bounds:
    """Return bounds of a tensor reshaped in row-major order."""
    full: list[int] = []
    target: list[int] = []
    changed: list[int] = []
    first = 0
    for old, new in runs:
        extents = lo.shape[first : first + len(old)]
        varies = any(extent > 1 for extent in extents)
        full += old if varies else extents
        if varies and old != new:
            changed += range(len(target), len(target) + len(new))
        target += new if varies else [1] * len(new)
        first += len(old)
    lo, hi = (np.broadcast_to(bound, full).reshape(target) for bound in (lo, hi))
    return compact(lo, hi, changed)


def unite(parts: Sequence[Bounds]) -> Bounds:
    """Return the union of parts, element by element."""
    return reduce(np.minimum, (lo for lo, _ in parts)), reduce(np.maximum, (hi for _, hi in parts))


def is_nested(old: Sequence[Ints], new: Sequence[Ints]) -> bool:
    """Return whether one of two parts varies along all dimensions along which the other does."""
    return np.broadcast_shapes(old[0].shape, new[0].shape) in (old[0].shape, new[0].shape)


def merge(parts: Sequence[Bounds]) -> tuple[Bounds, ...]:
    """Return the union of parts: one, unless that is much larger than they are."""
    if len(parts) == 1:
        return tuple(parts)
    extents = np.broadcast_shapes(*(lo.shape for lo, _ in parts))
    if prod(extents) <= max(_LARGEST, *(lo.size for lo, _ in parts)):
        lo, hi = unite(parts)
        return (compact(lo, hi, range(lo.ndim)),)
    return tuple(parts)
