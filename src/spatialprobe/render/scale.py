"""Values to 8-bit codes, and what the scale says about itself. Numpy only, no pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from spatialprobe.arguments import as_range, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import LEVELS, NONFINITE, Codes
from spatialprobe.render.robust import ROBUST_PERCENTILE, robust_reach

ScaleChoice: TypeAlias = Literal["robust", "layer", "map"] | tuple[float, float]
Values: TypeAlias = npt.NDArray[Any]

_CHUNK = 2**16  # values that are quantized at once
_SMALL_SPAN = 1e-30  # of a scale: its inverse, times LEVELS, would come near the end of float32


@dataclass(frozen=True, eq=False)
class Scale:
    """The codes of values: code k stands for values around `low + (k + 1/2) / LEVELS * (high - low)`."""

    choice: str  # "robust", "layer", "map" or "given"
    signed: bool  # diverging colors around zero, else sequential ones
    low: npt.NDArray[np.float64]  # (maps,) the value at the lower end of the first code
    high: npt.NDArray[np.float64]  # (maps,) the value at the upper end of the last code
    beyond: float  # the share of finite values outside [low, high], drawn as the nearest end
    cut: tuple[bool, bool] = (False, False)  # whether some lie below, and some above

    def of(self, chosen: npt.NDArray[np.int64]) -> Scale:
        """The same scale for some of the maps."""
        return replace(self, low=self.low[chosen], high=self.high[chosen])

    @property
    def shared(self) -> bool:
        """Whether all maps have one range, so that their colors may be compared."""
        return self.choice != "map"

    def ends(self) -> tuple[str, str]:
        """Return the numbers at both ends of a shared scale, marked where values lie beyond."""
        below, above = ("≤ " * self.cut[0], "≥ " * self.cut[1])
        return f"{below}{float(self.low[0]):.4g}", f"{above}{float(self.high[0]):.4g}"

    def words(self, scope: str = "the layer") -> str:
        """One sentence that says how colors are to be read; `scope` names what a shared scale holds for."""
        if not self.shared:
            return "Each map has its own scale: colors cannot be compared between maps."
        low, high = (format(float(bound[0]), ".4g") for bound in (self.low, self.high))
        name = "One given scale" if self.choice == "given" else f"One scale for {scope}"
        if not self.beyond:
            return f"{name}: {low} to {high}."
        robust = f" ({ROBUST_PERCENTILE:g}th percentile)" if self.choice == "robust" else ""
        return f"{name}: {low} to {high}{robust}; {share_words(self.beyond)} of the values lie beyond."


def share_words(share: float) -> str:
    """Return a share as a percentage, never 0 % for one that is not zero.

    >>> share_words(0.0042), share_words(1e-6)
    ('0.42%', 'less than 0.01%')
    """
    return f"{share:.2%}" if share >= 0.0001 else "less than 0.01%"


@dataclass(frozen=True, eq=False)
class Extremes:
    """The least and the greatest finite value of each map: one pass tells most of what a picture has to say."""

    low: npt.NDArray[np.float64]  # (maps,) NaN where no value is finite
    high: npt.NDArray[np.float64]  # (maps,)
    nonfinite: npt.NDArray[np.bool_]  # (maps,) holds NaN or infinity
    units: int  # values in each map

    @staticmethod
    def of(maps: Values) -> Extremes:
        """Those of maps (M, *spatial)."""
        flat = maps.reshape(len(maps), -1)
        with np.errstate(invalid="ignore"):
            low, high = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)
        nonfinite = ~(np.isfinite(low) & np.isfinite(high))  # NaN goes through, an infinity is an extreme itself
        for index in np.flatnonzero(nonfinite):
            finite = flat[index][np.isfinite(flat[index])]
            low[index], high[index] = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
        return Extremes(low, high, nonfinite, flat.shape[1])

    def of_maps(self, chosen: npt.NDArray[np.int64]) -> Extremes:
        """Those of some of the maps."""
        return Extremes(self.low[chosen], self.high[chosen], self.nonfinite[chosen], self.units)

    @property
    def signed(self) -> bool:
        """Whether any finite value is below zero."""
        return bool(np.fmin.reduce(self.low, initial=0) < 0)

    @property
    def reach(self) -> npt.NDArray[np.float64]:
        """(maps,) the largest finite magnitude, 0 where there is none."""
        return np.fmax(np.fmax(-self.low, self.high), 0)

    def words(self) -> str:
        """The range of all finite values."""
        if np.isnan(self.low).all():
            return "none finite"
        return f"{np.nanmin(self.low):.6g} to {np.nanmax(self.high):.6g}"


def choose_scale(maps: Values, choice: ScaleChoice, extremes: Extremes | None = None) -> Scale:
    """The scale of maps (M, *spatial): signed if any finite value is below zero.

    "layer": one range for all maps, from 0 to the largest value, or to both sides of 0 as far as the largest
    magnitude. "map": the same for each map alone. "robust": as "layer", with the 99.5th percentile of the finite
    magnitudes in place of the largest. `(low, high)`: that range. `extremes` are those of the maps, where they are
    known.

    Raises:
        ArgumentError: an unknown choice, or a range that is empty or not finite.
    """
    known = extremes or Extremes.of(maps)
    if not isinstance(choice, str):
        return _given(maps, known, choice)
    beyond = 0.0
    if choice == "map":
        reach = known.reach
    elif choice == "layer":
        reach = np.full(len(maps), known.reach.max())
    elif choice == "robust":
        least, beyond = robust_reach(maps, finite=not known.nonfinite.any(), signed=known.signed)
        reach = np.full(len(maps), least)
    else:
        raise ArgumentError(f"scale must be 'robust', 'layer', 'map' or a pair (low, high), not {short_repr(choice)}.")
    reach = np.where(reach > 0, reach, 1)
    low = -reach if known.signed else 0 * reach
    return Scale(choice, known.signed, low, reach, beyond, _cut(known, low[0], reach[0]) if beyond else (False, False))


def quantize(maps: Values, scale: Scale) -> Codes:
    """The codes of maps (M, *spatial), the same shape: 0 to LEVELS - 1, or NONFINITE."""
    codes = np.empty(maps.shape, np.uint8)
    some = max(1, _CHUNK // max(1, maps[0].size))
    for start in range(0, len(maps), some):  # so few at a time that the numbers in between stay in the cache
        part = slice(start, start + some)
        _quantize(maps[part], scale.low[part], scale.high[part], codes[part])
    return codes


def _quantize(maps: Values, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], codes: Codes) -> None:
    """Write the codes of some maps, each on the scale from `low` to `high`."""
    broadcast = (slice(None), *[None] * (maps.ndim - 1))
    span = high - low
    extreme = span.min() < _SMALL_SPAN or span.max() > 1 / _SMALL_SPAN
    dtype = np.dtype(np.float64) if extreme else np.result_type(maps, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        position = maps - low[broadcast].astype(dtype)
        position *= (LEVELS / span)[broadcast].astype(dtype)
        np.maximum(position, 0, out=position)
        np.minimum(position, LEVELS - 1, out=position)
        finite = np.isfinite(maps)
        if not finite.all():
            position[~finite] = NONFINITE
        codes[...] = position.astype(np.uint8)


def _given(maps: Values, extremes: Extremes, bounds: tuple[float, float]) -> Scale:
    """The scale of a range that the user gave; around zero if the range holds it inside."""
    low, high = as_range(bounds, "scale")
    signed = low < 0 < high
    if signed:  # the colors diverge at zero, so both sides reach equally far
        high = max(-low, high)
        low = -high
    beyond, ends = _share_outside(maps, extremes, low, high), np.ones(len(maps))
    return Scale("given", signed, low * ends, high * ends, beyond, _cut(extremes, low, high))


def _cut(extremes: Extremes, low: float, high: float) -> tuple[bool, bool]:
    """Return whether some finite value lies below a range, and whether some lies above it."""
    return bool(np.fmin.reduce(extremes.low) < low), bool(np.fmax.reduce(extremes.high) > high)


def _share_outside(maps: Values, extremes: Extremes, low: float, high: float) -> float:
    """The share of the finite values outside a range."""
    if np.fmin.reduce(extremes.low) >= low and np.fmax.reduce(extremes.high) <= high:
        return 0.0
    finite = np.isfinite(maps)
    outside = ((maps < low) | (maps > high)) & finite
    return float(outside.sum() / max(1, finite.sum()))
