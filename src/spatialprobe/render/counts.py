"""Counts of values in bins: counted from the values, or taken from a sweep's histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_int, as_range
from spatialprobe.errors import ArgumentError
from spatialprobe.render.scale import Extremes, Values

if TYPE_CHECKING:
    from spatialprobe.statistics.histogram import HistogramResult

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NARROW = 1e-9  # of a range, beside the values: bins and axis numbers could not be told apart
_MOST_BINS = 256  # of more each would be narrower than two pixels
_FEWEST_BINS = 16  # fewer would look like a block, where all values are in a bin or two


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts in bins that all channels share."""

    inside: Integers  # (channels, bins) bin b holds edges[b] <= value < edges[b + 1], the last one its upper edge too
    edges: Floats  # (bins + 1,)
    outside: Integers  # (channels,) finite values beyond the edges
    zeros: Integers | None  # (channels,) values of exactly zero, which are in a bin too; None where not known
    nonfinite: Integers | None  # (channels,) NaN and infinities, which are in no bin; None where not known

    @staticmethod
    def of_values(values: Values, bins: int, span: tuple[float, float] | None) -> Counts:
        """Those of values (C, M)."""
        edges = _edges(Extremes.of(values), bins, span)
        finite = np.isfinite(values)
        inside = np.stack([np.histogram(row[known], edges)[0] for row, known in zip(values, finite, strict=True)])
        outside = finite.sum(axis=1) - inside.sum(axis=1)
        return Counts(inside.astype(np.int64), edges, outside, (values == 0).sum(axis=1), (~finite).sum(axis=1))

    @staticmethod
    def of_histogram(histogram: HistogramResult, channels: Integers) -> Counts:
        """Return those of some channels of a histogram; where their bins differ, in bins that hold those of all.

        Raises:
            ArgumentError: the channels' bins do not lie within each other.
        """
        counts = histogram.counts.cpu().numpy()[channels]
        edges = histogram.edges.cpu().numpy().astype(np.float64)
        outside = (histogram.below + histogram.above).cpu().numpy()[channels]
        if edges.ndim == 1 or (edges[channels] == edges[channels[0]]).all():
            return Counts(counts, edges if edges.ndim == 1 else edges[channels[0]], outside, None, None)
        inside, borders = _nested(counts, edges[channels])
        return Counts(inside, borders, outside + counts.sum(axis=1) - inside.sum(axis=1), None, None)


def _edges(extremes: Extremes, bins: int, span: tuple[float, float] | None) -> Floats:
    """The borders of the bins; around what is all but a single value, one unit wide or a millionth of it."""
    as_int(bins, "bins", least=1, most=_MOST_BINS)
    if span is None:
        low, high = float(np.fmin.reduce(extremes.low)), float(np.fmax.reduce(extremes.high))
    else:
        low, high = as_range(span, "span")
    if not np.isfinite(low):
        low, high = 0.0, 1.0
    size = max(abs(low), abs(high))
    if span is None and high - low <= size * _NARROW:
        low, high = low - max(0.5, size * 1e-6), high + max(0.5, size * 1e-6)
    return np.linspace(low, high, bins + 1)


def _nested(counts: Integers, edges: Floats) -> tuple[Integers, Floats]:
    """Return counts (C, bins) with a row of edges each in bins that hold those of every channel whole, and their edges.

    The bins are those of the coarsest channel, or twice as wide and so on where these are more than can be shown. A
    channel of one value that is far from all others, which would make all their bins one, lies beyond the bins.

    Raises:
        ArgumentError: the channels' bins do not lie within each other.
    """
    used = (counts > 0) & ~_far_constants(counts, edges)[:, None]
    if not used.any():
        return counts, edges[0]
    width = _common_width(edges, used)
    first = np.floor(edges[:, :-1] / width)  # the number of the wide bin that each begins in
    if (edges[:, 1:] > (first + 1) * width)[used].any():
        raise ArgumentError(
            "The bins of these channels do not lie within each other: pass bounds to the Histogram reducer, "
            "Histogram(low=..., high=...), or draw channels=[...] that are alike."
        )
    low, high = int(first[used].min()), int(first[used].max())
    spare = max(0, _FEWEST_BINS - (high - low + 1))
    low, high = low - spare // 2, high + spare - spare // 2
    inside = np.zeros((len(counts), high - low + 1), np.int64)
    rows, columns = np.nonzero(np.where(used, counts, 0))
    np.add.at(inside, (rows, first[rows, columns].astype(np.int64) - low), counts[rows, columns])
    return inside, np.arange(low, high + 2, dtype=np.float64) * width


def _far_constants(counts: Integers, edges: Floats) -> npt.NDArray[np.bool_]:
    """Return which channels have all values in one bin, further from the others than these are spread."""
    used = counts > 0
    constant = used.sum(axis=1) == 1
    others = used & ~constant[:, None]
    if not others.any():
        return np.zeros(len(counts), np.bool_)
    low, high = edges[:, :-1][others].min(), edges[:, 1:][others].max()
    span = high / 2 - low / 2  # halves, for a whole span may be larger than the largest number
    below, above = (
        np.where(used, edges[:, :-1], np.inf).min(axis=1),
        np.where(used, edges[:, 1:], -np.inf).max(axis=1),
    )
    with np.errstate(over="ignore"):
        return np.asarray(constant & ((above < low - 2 * span) | (below > high + 2 * span)))


def _common_width(edges: Floats, used: npt.NDArray[np.bool_]) -> float:
    """Return the width of the coarsest bins that are used; doubled until all values lie in few enough."""
    width = float(np.diff(edges, axis=1)[used].max())
    low, high = edges[:, :-1][used].min(), edges[:, 1:][used].max()
    while high / width - low / width >= _MOST_BINS - 1:
        width *= 2
    return width
