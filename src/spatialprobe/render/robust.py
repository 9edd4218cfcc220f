"""The robust end of a scale: the magnitude that all but a few of a layer's values stay below. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

ROBUST_PERCENTILE = 99.5
_STRIDE = 61  # of the values that are looked at first; prime, so that it does not follow the rows of a map
_FEW = 2**13  # values that are simply sorted
_MARGIN = 3.0  # times as many candidates are expected as are needed, so that one look is nearly always enough


def robust_reach(values: Values, *, finite: bool = False, signed: bool = True) -> tuple[float, float]:
    """Return the 99.5th percentile of the finite magnitudes, and the share of finite values beyond it.

    The percentile is a value of the data (numpy's method "higher"), so that at most 0.5 % lie beyond and among few
    values none. Where more than 99.5 % of the values are zero, as behind a sparse nonlinearity, it is the percentile of
    the others. It is 0 where no value is finite and not zero.

    Args:
        values: of any shape; those of one layer for one sample, with what the border does to them.
        finite: all of them are known to be finite, which spares a look.
        signed: some may be below zero; one more look is spared where that is known not to be.

    >>> robust_reach(np.arange(1000.0))
    (995.0, 0.004)
    >>> robust_reach(np.array([[0, 1, -3], [np.nan, np.inf, 2]]))
    (3.0, 0.0)
    """
    flat = values.reshape(-1)
    magnitude = np.abs(flat) if signed else flat
    if not finite:
        magnitude = magnitude[np.isfinite(magnitude)]
    if not magnitude.size:
        return 0.0, 0.0
    reach, beyond = _percentile(magnitude)
    if reach == 0:
        others = magnitude[magnitude > 0]
        reach, beyond = _percentile(others) if others.size else (0.0, 0)
    return float(reach), beyond / magnitude.size


def _percentile(magnitude: Values) -> tuple[float, int]:
    """Return the percentile of magnitudes (M,), and how many lie beyond it.

    Only the largest matter: those above a bound that is read off a few of them are sorted, and all of them where the
    bound turns out to be too high.
    """
    needed = magnitude.size - int(np.ceil(ROBUST_PERCENTILE / 100 * (magnitude.size - 1)))  # the least of these
    largest = magnitude
    if magnitude.size > _FEW:
        some = magnitude[::_STRIDE]
        keep = min(len(some) - 1, int(_MARGIN * needed / _STRIDE))
        above = magnitude[magnitude >= np.partition(some, len(some) - 1 - keep)[len(some) - 1 - keep]]
        largest = above if above.size >= needed else magnitude
    reach = np.partition(largest, largest.size - needed)[largest.size - needed]
    return float(reach), int((largest > reach).sum())
