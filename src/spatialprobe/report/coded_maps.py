"""Maps as 8-bit codes, each channel between its own least and greatest value. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spatialprobe.render.robust import robust_reach
from spatialprobe.render.scale import Extremes, Values

STEPS = 254  # code k stands for low + k / STEPS * (high - low), so that both ends are exact
NONFINITE = 255
_CHUNK = 2**16  # values that are coded at once, so that the numbers in between stay in the cache

Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CodedMaps:
    """The maps of one layer for one image, and what each channel's values come to."""

    codes: Codes  # (C, h, w), of a signal (C, 1, w), of a volume (C, d, h, w)
    low: Floats  # (C,) the least finite value, NaN where there is none
    high: Floats  # (C,) the greatest
    mean: Floats  # (C,) of the finite values
    silent: Floats  # (C,) the share of units at or below zero
    nonfinite: npt.NDArray[np.bool_]  # (C,) holds NaN or infinity
    robust: float  # the magnitude that all but a few of the values stay below, of all channels, 0 where there is none

    @staticmethod
    def of(maps: Values) -> CodedMaps:
        """Those of maps (C, h, w), (C, w) or (C, d, h, w)."""
        if maps.ndim == 2:
            maps = maps[:, None]
        extremes = Extremes.of(maps)
        codes = np.empty(maps.shape, np.uint8)
        mean, silent = np.empty(len(maps)), np.empty(len(maps))
        some = max(1, _CHUNK // max(1, maps[0].size))
        for start in range(0, len(maps), some):
            part = slice(start, start + some)
            flat = maps[part].reshape(len(maps[part]), -1)
            codes[part] = _coded(flat, extremes.low[part], extremes.high[part]).reshape(maps[part].shape)
            mean[part] = _means(flat, bool(extremes.nonfinite[part].any()))
            silent[part] = (flat <= 0).mean(axis=1)
        robust, _ = robust_reach(maps, finite=not extremes.nonfinite.any(), signed=extremes.signed)
        return CodedMaps(codes, extremes.low, extremes.high, mean, silent, extremes.nonfinite, robust)

    @property
    def numbers(self) -> Floats:
        """(5, C): low, high, mean, silent, nonfinite."""
        return np.stack([self.low, self.high, self.mean, self.silent, self.nonfinite.astype(np.float64)])

    @property
    def reach(self) -> Floats:
        """(C,) the largest finite magnitude, 0 where there is none."""
        return np.fmax(np.fmax(-self.low, self.high), 0)

    @property
    def extremes(self) -> Extremes:
        """The extremes that marks and pictures need."""
        return Extremes(self.low, self.high, self.nonfinite, self.codes[0].size)

    def of_channels(self, chosen: npt.NDArray[np.int64]) -> CodedMaps:
        """The same for some of the channels."""
        numbers = self.low[chosen], self.high[chosen], self.mean[chosen], self.silent[chosen]
        return CodedMaps(self.codes[chosen], *numbers, self.nonfinite[chosen], self.robust)

    def values(self) -> Floats:
        """What the codes stand for, of their shape, NaN where a value was not finite."""
        share = self.codes / STEPS
        low, high = (end.reshape(-1, *(1,) * (self.codes.ndim - 1)) for end in (self.low, self.high))
        return np.where(self.codes == NONFINITE, np.nan, low * (1 - share) + high * share)


def _coded(flat: Values, low: Floats, high: Floats) -> Codes:
    """The codes of maps (M, units)."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        first = low[:, None] / 2  # halves, for a whole range may be larger than the largest number
        share = (flat.astype(np.float64) / 2 - first) / (high[:, None] / 2 - first)
        steps = np.rint(np.clip(np.nan_to_num(share), 0, 1) * STEPS).astype(np.uint8)
    steps[~np.isfinite(flat)] = NONFINITE
    return steps


def _means(flat: Values, some_nonfinite: bool) -> Floats:
    """(M,) of the finite values, NaN where there is none."""
    if not some_nonfinite:
        return np.asarray(flat.mean(axis=1, dtype=np.float64))
    finite = np.isfinite(flat)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(finite, flat, 0).sum(axis=1, dtype=np.float64) / finite.sum(axis=1))
