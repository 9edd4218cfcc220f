"""Strided views: the dimensions of a tensor that run along those of another that shares its memory."""

from __future__ import annotations

from typing import TypeAlias

from spatialprobe.fields.reach import Reach

# Where a tensor's elements lie in its storage: offset, sizes, strides, and the bytes of an element.
Geometry: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...], int]


def view_strided(reach: Reach, base: Geometry, place: Geometry) -> Reach | None:
    """Return what a tensor sees whose dimensions run along the base's; overlapping windows have two along one.

    None where a dimension runs along several.
    """
    runs = _find_runs(base, place)
    if runs is None:
        return None
    for dim in reversed(range(len(base[1]))):
        start, along = runs[dim]
        steps = [place[2][one] // base[2][dim] for one in along]
        reach = reach.gridded(dim, start, steps, [place[1][one] for one in along])
    order = [one for _, along in runs for one in along]
    permuted = reach.permuted([order.index(one) for one in sorted(order)])
    return permuted.reshaped([size if dim in order else 1 for dim, size in enumerate(place[1])]).expanded(place[1])


def find_region(base: Geometry, place: Geometry) -> tuple[list[slice], list[int]] | None:
    """Return the box of the base's dimensions that a tensor covers, and its dimensions in the base's order.

    None if there is no such box: after a reshape that merges dimensions, or for overlapping windows.
    """
    runs = _find_runs(base, place)
    order = [one for _, along in runs or () for one in along]
    others = [dim for dim in range(len(place[1])) if dim not in order]
    if runs is None or any(len(along) > 1 for _, along in runs) or any(place[1][dim] > 1 for dim in others):
        return None
    region = []
    for (start, along), stride in zip(runs, base[2], strict=True):
        step, count = (place[2][along[0]] // stride, place[1][along[0]]) if along else (1, 1)
        region.append(slice(start, start + (count - 1) * step + 1, step))
    return region, [*others, *order]


def _find_runs(base: Geometry, place: Geometry) -> list[tuple[int, list[int]]] | None:
    """Return for each dimension of the base where a tensor begins, and which of its dimensions run along it.

    Dimensions without extent in memory run along none. None if a dimension runs along several.
    """
    rest = place[0] - base[0]
    runs: list[tuple[int, list[int]]] = [(0, [])] * len(base[1])
    left = [dim for dim, size in enumerate(place[1]) if size > 1 and place[2][dim]]
    for dim in sorted(range(len(base[1])), key=lambda dim: -base[2][dim]):
        size, stride = base[1][dim], base[2][dim]
        if size == 1:
            continue
        start, rest = divmod(rest, stride)
        along = [one for one in left if place[2][one] % stride == 0 and place[2][one] < size * stride]
        left = [one for one in left if one not in along]
        last = start + sum((place[1][one] - 1) * place[2][one] // stride for one in along)
        if not 0 <= start <= last < size:
            return None
        runs[dim] = start, along
    return None if left or rest else runs
