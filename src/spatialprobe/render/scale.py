"""Values to 8-bit codes, and what the scale says about itself. Numpy only, no pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import LEVELS, NONFINITE, Codes

ScaleChoice: TypeAlias = Literal["layer", "map", "robust"] | tuple[float, float]
Values: TypeAlias = npt.NDArray[Any]

_ROBUST_PERCENTILE = 99.0
_SMALL_SPAN = 1e-30  # of a scale: its inverse, times LEVELS, would come near the end of float32


@dataclass(frozen=True, eq=False)
class Scale:
    """Which value has which code: code k stands for values around `low + (k + 1/2) / LEVELS * (high - low)`."""

    choice: str  # "layer", "map", "robust" or "given"
    signed: bool  # diverging colours around zero, else sequential ones
    low: npt.NDArray[np.float64]  # (maps,) the value at the lower end of the first code
    high: npt.NDArray[np.float64]  # (maps,) the value at the upper end of the last code
    beyond: float  # the share of finite values outside [low, high], drawn as the nearest end

    def of(self, chosen: npt.NDArray[np.int64]) -> Scale:
        """The same scale for some of the maps."""
        return replace(self, low=self.low[chosen], high=self.high[chosen])

    @property
    def shared(self) -> bool:
        """Whether all maps have one range, so that their colours may be compared."""
        return self.choice != "map"

    def words(self) -> str:
        """One sentence that says how colours are to be read."""
        if not self.shared:
            return "Each map has its own scale: colours cannot be compared between maps."
        low, high = (format(float(bound[0]), ".4g") for bound in (self.low, self.high))
        name = {
            "layer": "One scale for the layer",
            "robust": f"One robust scale ({_ROBUST_PERCENTILE:g}th percentile)",
            "given": "One given scale",
        }[self.choice]
        beyond = f", {self.beyond:.2%} of the values lie beyond" if self.beyond else ""
        return f"{name}: {low} to {high}{beyond}."


@dataclass(frozen=True, eq=False)
class Marks:
    """Maps whose colours alone would mislead; each array (maps,) bool."""

    dead: npt.NDArray[np.bool_]  # zero everywhere
    constant: npt.NDArray[np.bool_]  # one value everywhere, not zero
    nonfinite: npt.NDArray[np.bool_]  # holds NaN or infinity

    @staticmethod
    def of(maps: Values) -> Marks:
        """The marks of maps (M, *spatial); a map of a single unit is never called constant or dead."""
        flat = maps.reshape(len(maps), -1)
        nonfinite = np.asarray(~np.isfinite(flat).all(axis=1))
        if flat.shape[1] < 2:
            return Marks(np.zeros_like(nonfinite), np.zeros_like(nonfinite), nonfinite)
        same = (flat == flat[:, :1]).all(axis=1) & ~nonfinite
        zero = flat[:, 0] == 0
        return Marks(same & zero, same & ~zero, nonfinite)


def choose_scale(maps: Values, choice: ScaleChoice) -> Scale:
    """The scale of maps (M, *spatial): signed if any finite value is below zero.

    "layer": one range for all maps, from 0 to the largest value, or to both sides of 0 as far as the largest
    magnitude. "map": the same for each map alone. "robust": as "layer", with the 99th percentile of the magnitudes
    in place of the largest. `(low, high)`: that range.

    Raises:
        ArgumentError: an unknown choice, or a range that is empty or not finite.
    """
    flat = maps.reshape(len(maps), -1)
    finite = np.isfinite(flat)
    signed = bool((flat < 0).any(where=finite))
    if isinstance(choice, tuple):
        return _given(flat, finite, choice)
    magnitude = np.abs(flat, dtype=np.result_type(flat, np.float32))
    if choice == "map":
        reach = magnitude.max(axis=1, where=finite, initial=0)
    elif choice == "layer":
        reach = np.full(len(maps), magnitude.max(where=finite, initial=0))
    elif choice == "robust":
        reach = np.full(len(maps), np.percentile(magnitude[finite], _ROBUST_PERCENTILE) if finite.any() else 0)
    else:
        raise ArgumentError(f"scale must be 'layer', 'map', 'robust' or a pair (low, high), not {choice!r}.")
    reach = np.where(reach > 0, reach, 1).astype(np.float64)
    beyond = _share_outside(flat, finite, -reach[0], reach[0]) if choice == "robust" else 0.0
    return Scale(choice, signed, -reach if signed else 0 * reach, reach, beyond)


def quantise(maps: Values, scale: Scale) -> Codes:
    """The codes of maps (M, *spatial), the same shape: 0 to LEVELS - 1, or NONFINITE."""
    broadcast = (slice(None), *[None] * (maps.ndim - 1))
    span = scale.high - scale.low
    extreme = span.min() < _SMALL_SPAN or span.max() > 1 / _SMALL_SPAN
    dtype = np.dtype(np.float64) if extreme else np.result_type(maps, np.float32)
    low, high = (bound[broadcast].astype(dtype) for bound in (scale.low, scale.high))
    with np.errstate(invalid="ignore", over="ignore"):
        position = maps - low
        position *= LEVELS / (high - low)
        np.clip(position, 0, LEVELS - 1, out=position)
        finite = np.isfinite(maps)
        if not finite.all():
            position[~finite] = NONFINITE
    codes: Codes = position.astype(np.uint8)
    return codes


def _given(flat: Values, finite: npt.NDArray[np.bool_], bounds: tuple[float, float]) -> Scale:
    """The scale of a range that the user gave; around zero if the range holds it inside."""
    low, high = bounds if len(bounds) == 2 else (np.nan, np.nan)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ArgumentError(f"scale=(low, high) needs two finite numbers, the lower first, not {bounds!r}.")
    beyond = _share_outside(flat, finite, low, high)
    signed = low < 0 < high
    if signed:  # the colours diverge at zero, so both sides reach equally far
        high = max(-low, high)
        low = -high
    ends = np.ones(len(flat))
    return Scale("given", signed, low * ends, high * ends, beyond)


def _share_outside(flat: Values, finite: npt.NDArray[np.bool_], low: float, high: float) -> float:
    outside = ((flat < low) | (flat > high)) & finite
    return float(outside.sum() / max(1, finite.sum()))
