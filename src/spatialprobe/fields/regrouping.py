"""A reshape in row-major order as runs of dimensions that hold the same elements before and after. No tensors."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

from spatialprobe.fields.lattice import Lattice

Shape: TypeAlias = Sequence[int]
Regrouping: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]  # old sizes -> new sizes, run by run


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


def regroup_lattice(lattice: Lattice, dim: int, old: tuple[int, ...], new: tuple[int, ...]) -> Lattice:
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
