"""The values of a batch less their mean over the samples, scaled so that products neither overflow nor vanish."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

_SMALLEST, _LARGEST = 2.0**-30, 2.0**45  # norms of maps whose products are safe in float32
_FAR = 1e3  # where values lie this many times farther from zero than from their mean, the mean's rounding counts


@dataclass(frozen=True)
class Rows:
    """What the maps of a batch are beyond their mean over its samples."""

    centered: torch.Tensor  # (N, C, L) float32 or float64: 2 ** -exponent times the values less their mean
    mean: torch.Tensor  # (C, L) float64: the mean over the samples
    exponent: int
    squares: torch.Tensor  # (C,) float64: the sums of squares of the values less their mean
    precision: float  # the relative rounding error of one value

    def to(self, device: torch.device) -> Rows:
        """Return the rows on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("centered", "mean", "squares")}
        return replace(self, **moved)


def center(units: torch.Tensor) -> Rows:
    """Return the centered rows of activations (N, C, L)."""
    exact = units.dtype in (torch.float16, torch.bfloat16, torch.float32)
    values = units.to(torch.float32 if exact else torch.float64)
    mean = values.mean(dim=0)
    if torch.equal(values[0], values[-1]) and bool((values == values[0]).all()):
        return _describe(torch.zeros_like(values), values[0], 0)
    centered = values - mean
    peak = float(torch.linalg.vector_norm(centered, dim=2).max())
    if not _SMALLEST <= peak <= _LARGEST:  # NaN, too, where the mean has overflowed
        return _center_scaled(values)
    return _describe(*_recenter(centered, mean, peak), 0)


def scale(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """Return the values times 2 ** exponent, also where that factor is out of the range of their dtype."""
    half = exponent // 2
    return values.mul(2.0**half).mul_(2.0 ** (exponent - half))


def gram_matrix(rows: Rows) -> torch.Tensor:
    """Return the products of each pair of samples, (N, N) float64 on the CPU."""
    flat = rows.centered.flatten(1)
    return scale((flat @ flat.T).cpu().double(), 2 * rows.exponent)


def _center_scaled(values: torch.Tensor) -> Rows:
    """Return the centered rows of values that are not constant, scaled by a power of two to about one."""
    first = _exponent(values)
    values = scale(values, -first)
    mean = values.mean(dim=0)
    centered = values - mean
    centered, mean = _recenter(centered, mean, float(centered.abs().max()))
    second = _exponent(centered)
    return _describe(scale(centered, -second), scale(mean.double(), first), first + second)


def _recenter(centered: torch.Tensor, mean: torch.Tensor, peak: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centered values and their mean after its rounding error has been moved to where it belongs."""
    if float(mean.abs().max()) * _FAR < peak / math.sqrt(centered.shape[2]):
        return centered, mean
    rest = centered.mean(dim=0)
    return centered.sub_(rest), mean.double() + rest.double()


def _describe(centered: torch.Tensor, mean: torch.Tensor, exponent: int) -> Rows:
    norms: torch.Tensor = torch.linalg.vector_norm(centered, dim=2)
    squares = scale(norms.double().square_().sum(dim=0), 2 * exponent)
    return Rows(centered, mean.double(), exponent, squares, torch.finfo(centered.dtype).eps)


def _exponent(values: torch.Tensor) -> int:
    """Return the exponent of the power of two that is just above the largest magnitude; 0 for zeros."""
    return math.frexp(float(values.abs().max()))[1]
