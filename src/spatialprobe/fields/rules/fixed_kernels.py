"""Convolutions with kernels that are constants, as filters of edges have: they see nothing through zeros."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from spatialprobe.fields.reach import Reach, union
from spatialprobe.fields.rules.operation import Operation
from spatialprobe.fields.taps import Bools, Taps

_MOST_KERNELS = 16  # different ones, by their zeros


def convolve_fixed(operation: Operation, geometry: Sequence[Sequence[int]]) -> Reach | None:
    """Return what a convolution with a known kernel sees; None if no zero of it is known, or channels differ too much.

    Args:
        operation: a convolution.
        geometry: stride, padding and dilation, each with one number for each axis.
    """
    kernel = operation.fixed("weight")
    if kernel is None or kernel.all():
        return None
    seen, taken = operation.reach("input"), kernel != 0  # (channels, inputs of a group, *taps)
    if seen.varies(1) and (taken != taken[:, :1]).any():
        return None
    taken = taken.any(1)
    patterns = np.unique(taken, axis=0)
    if len(patterns) > _MOST_KERNELS:
        return None
    operation.heeded.add("weight")
    seen = seen.regrouped(1, operation["groups"], operation.shape[1])
    if len(patterns) == 1:
        return _tap(seen, patterns[0], geometry, operation.shape)
    parts = []
    for pattern in patterns:
        others = (taken != pattern).reshape(len(taken), -1).any(1)
        part = _tap(seen, pattern, geometry, operation.shape)
        parts.append(part.emptied(others.reshape(-1, *(1,) * pattern.ndim)))
    return union(parts, operation.shape)


def _tap(seen: Reach, pattern: Bools, geometry: Sequence[Sequence[int]], shape: tuple[int, ...]) -> Reach:
    """Return the union over those taps of a window that a pattern (*taps) holds."""
    parts = []
    for places in _products(pattern):
        part = seen
        for axis, (chosen, stride, padding, dilation) in enumerate(zip(places, *geometry, strict=True)):
            part = part.tapped(2 + axis, _choose_taps(chosen, stride, padding, dilation), shape[2 + axis])
        parts.append(part)
    return union(parts, shape)


def _choose_taps(chosen: Sequence[int], stride: int, padding: int, dilation: int) -> Taps:
    """Return the taps of a window at some of its places."""
    reach = np.array(chosen) * dilation - padding
    return Taps(lambda out: out[:, None] * stride + reach, 1, stride)


def _products(pattern: Bools) -> list[list[list[int]]]:
    """Return a pattern as a union of products: of each, the places along every axis.

    >>> _products(np.array([[False, True, False], [True, True, True], [False, True, False]]))
    [[[0, 2], [1]], [[1], [0, 1, 2]]]
    """
    if pattern.ndim == 1:
        places = np.flatnonzero(pattern).tolist()
        return [[places]] if places else []
    rows = sorted(range(len(pattern)), key=lambda row: pattern[row].tobytes())
    groups = [list(alike) for _, alike in groupby(rows, key=lambda row: pattern[row].tobytes())]
    return [[alike, *rest] for alike in groups for rest in _products(pattern[alike[0]])]
