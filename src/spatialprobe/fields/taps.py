"""The positions along one dimension that each output position reads, for operators that slide or resample."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_int

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NONE = -(2**60)  # in a table of taps: this output has fewer taps than others
_MOST = 2**24  # the most positions in a window


class Taps:
    """The taps of an operator along one dimension, for an unbounded range of output positions.

    `positions` maps output positions (n,) to input positions (n, k), which may lie outside the input, or are NONE;
    `every` outputs further on, the taps lie `advance` positions further on.

    >>> import numpy as np
    >>> from spatialprobe.fields import rules
    >>> mirrored = rules.Taps(lambda outputs: np.stack([outputs, 7 - outputs], axis=1))  # each with its mirror image
    >>> mirrored.positions(np.arange(3)).tolist()
    [[0, 7], [1, 6], [2, 5]]
    """

    __slots__ = ("_tables", "advance", "clamped", "every", "positions")

    def __init__(
        self, positions: Callable[[Ints], Ints], every: int = 1, advance: int = 1, *, clamped: bool = False
    ) -> None:
        self.positions = positions
        self.every = every
        self.advance = advance
        self.clamped = clamped  # a tap outside reads the border instead of nothing
        self._tables: dict[tuple[int, int], tuple[Ints, Bools | None]] = {}

    def table(self, inputs: int, outputs: int) -> tuple[Ints, Bools | None]:
        """Return the taps inside an input of this length, (outputs, k), and which outputs have none; None if all have.

        A tap outside is replaced by another of the same output, which leaves the union unchanged.
        """
        key = inputs, outputs
        if key not in self._tables:
            self._tables[key] = self._table(inputs, outputs)
        return self._tables[key]

    def _table(self, inputs: int, outputs: int) -> tuple[Ints, Bools | None]:
        found = self.positions(np.arange(outputs))
        if self.clamped:
            found = np.where(found == NONE, NONE, found.clip(0, inputs - 1))
        return _inside(found, inputs)


def list_taps(taps: Taps, inputs: int, rows: Ints) -> Taps:
    """Return the same taps, but inside an input of this length those listed, (outputs, k); NONE where fewer than k.

    >>> rows = np.array([[0, NONE], [0, 1], [2, NONE]])
    >>> list_taps(window(kernel=1), 3, rows).table(3, 3)[0].tolist()
    [[0, 0], [0, 1], [2, 2]]
    """
    made = Taps(taps.positions, taps.every, taps.advance, clamped=taps.clamped)
    made._tables[inputs, len(rows)] = _inside(rows, inputs)
    return made


def window(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Taps:
    """Return the taps of a convolution or a pooling.

    >>> window(kernel=3, stride=2, padding=1).positions(np.arange(3)).tolist()
    [[-1, 0, 1], [1, 2, 3], [3, 4, 5]]
    """
    return _window(
        as_int(kernel, "kernel", least=1),
        as_int(stride, "stride", least=1),
        as_int(padding, "padding", most=_MOST),
        as_int(dilation, "dilation", least=1),
    )


@lru_cache(maxsize=1024)
def _window(kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    reach = np.arange(kernel) * dilation - padding
    return Taps(lambda out: out[:, None] * stride + reach, 1, stride)


def transposed_window(kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    """Return the taps of a transposed convolution: input i with tap k writes to stride * i - padding + dilation * k.

    >>> taps = transposed_window(kernel=2, stride=2, padding=0, dilation=1)
    >>> [[one for one in row if one != NONE] for row in taps.positions(np.arange(4)).tolist()]
    [[0], [0], [1], [1]]
    """
    return _transposed_window(
        as_int(kernel, "kernel", least=1),
        as_int(stride, "stride", least=1),
        as_int(padding, "padding", most=_MOST),
        as_int(dilation, "dilation", least=1),
    )


@lru_cache(maxsize=1024)
def _transposed_window(kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    reach = padding - np.arange(kernel) * dilation

    def positions(out: Ints) -> Ints:
        whole, rest = np.divmod(out[:, None] + reach, stride)
        return np.where(rest == 0, whole, NONE)

    return Taps(positions, stride, 1)


def adaptive(inputs: int, outputs: int) -> Taps:
    """Return the taps of adaptive pooling.

    Output i reads from floor(i * inputs / outputs) to ceil((i + 1) * inputs / outputs).

    >>> adaptive(inputs=4, outputs=2).positions(np.arange(2)).tolist()
    [[0, 1], [2, 3]]
    """
    return _adaptive(as_int(inputs, "inputs", least=1), as_int(outputs, "outputs", least=1))


@lru_cache(maxsize=1024)
def _adaptive(inputs: int, outputs: int) -> Taps:
    common = gcd(inputs, outputs)

    def positions(out: Ints) -> Ints:
        start = out * inputs // outputs
        stop = -(-(out + 1) * inputs // outputs)
        return _ranges(start, stop)

    return Taps(positions, outputs // common, inputs // common)


def affine(start: int, step: int) -> Taps:
    """Return the taps of slices, flips and shifts: output i reads start + step * i.

    >>> affine(start=7, step=-1).positions(np.arange(3)).tolist()  # a flip of eight positions
    [[7], [6], [5]]
    """
    return _affine(as_int(start, "start"), as_int(step, "step"))


@lru_cache(maxsize=1024)
def _affine(start: int, step: int) -> Taps:
    return Taps(lambda out: start + step * out[:, None], 1, step)


@lru_cache(maxsize=1024)
def nearest(scale: Fraction, *, centered: bool) -> Taps:
    """Return the taps of nearest-neighbor resampling by a scale of input positions per output position."""
    up, down = scale.numerator, scale.denominator

    def positions(out: Ints) -> Ints:
        doubled = (2 * out + 1) * up if centered else 2 * out * up
        return (doubled // (2 * down))[:, None]

    return Taps(positions, down, up, clamped=True)


@lru_cache(maxsize=1024)
def interpolated(scale: Fraction, *, cubic: bool, align_corners: bool) -> Taps:
    """Return the taps of linear or cubic resampling; an output that coincides with an input reads only that."""
    up, down = scale.numerator, scale.denominator
    reach = np.arange(-1, 3) if cubic else np.arange(2)

    def positions(out: Ints) -> Ints:
        doubled = 2 * out * up if align_corners else (2 * out + 1) * up - down
        whole, rest = np.divmod(doubled, 2 * down)
        return whole[:, None] + np.where(rest[:, None] == 0, 0, reach)

    return Taps(positions, down, up, clamped=True)


@lru_cache(maxsize=1024)
def antialiased(scale: Fraction, *, radius: int) -> Taps:
    """Return the taps of resampling with a kernel that widens with the scale.

    It reads the positions closer to the output's center than its radius, except its zeros, at the integers in between.
    """
    wide = max(scale, Fraction(1))

    def positions(out: Ints) -> Ints:
        # tap x has its center at x + 1/2; all is multiplied by a common denominator, so that integers suffice
        unit = 2 * scale.denominator * wide.denominator
        center = (2 * out + 1) * int(scale * unit / 2)
        reach = int(radius * wide * unit)
        start = (center - reach - unit // 2) // unit + 1
        stop = -((-center - reach + unit // 2) // unit)
        taps = _ranges(start, stop)
        apart = abs(taps * unit + unit // 2 - center[:, None])
        return np.where(np.isin(apart, [int(zero * wide * unit) for zero in range(1, radius)]), NONE, taps)

    return Taps(positions, scale.denominator, scale.numerator)


def _inside(found: Ints, inputs: int) -> tuple[Ints, Bools | None]:
    """Return taps (outputs, k), those outside an input replaced by others of the same output, and which have none."""
    inside = (found >= 0) & (found < inputs)
    stand_in = np.take_along_axis(found, inside.argmax(axis=1)[:, None], axis=1)
    empty: Bools = np.logical_not(inside.any(axis=1))
    index = np.where(inside, found, np.where(empty[:, None], 0, stand_in))
    return index, empty if empty.any() else None


def _ranges(start: Ints, stop: Ints) -> Ints:
    """Return the ranges from start to stop (n,) as (n, k), NONE beyond the end of the shorter ones."""
    table = start[:, None] + np.arange(int((stop - start).max(initial=1)))
    return np.where(table < stop[:, None], table, NONE)
