"""Sums of the absolute values or the squares of gradients that neither overflow nor underflow."""

from __future__ import annotations

from collections.abc import Callable
from math import frexp, isfinite

import torch

_LARGEST = 1000  # powers of two and their inverses are normal numbers in float64 up to here
_IN_HALF = 15  # the largest power of two in float16
_HEADROOM = 8  # powers of two by which a gradient in float16 is kept below the largest finite value


class GradientSums:
    """The sum of many gradients' absolute values, or squares, over the channels of the input.

    Gradients are converted to float64 first, and divided by a common power of two that the largest does not exceed:
    `values` are the sums up to a factor. So the square of 1e300, or of 1e-300, is as precise as any other.

    >>> sums = GradientSums((1, 2), squared=True)
    >>> sums.add(torch.tensor([[[3e30, 0.0]]])), sums.add(torch.tensor([[[0.0, 6e30]]]))
    (True, True)
    >>> (sums.values / sums.values[0, 0]).tolist()
    [[1.0, 4.0]]
    """

    def __init__(self, shape: tuple[int, ...], *, squared: bool) -> None:
        self.values = torch.zeros(shape, dtype=torch.float64, device="cpu")  # (N, *spatial)
        self._squared = squared
        self._power = -_LARGEST  # the exponent of the power of two by which all are divided

    def add(self, gradient: torch.Tensor) -> bool:
        """Add a gradient (N, C, *spatial); return whether all of it is finite, and add nothing if it is not."""
        wide = _to_double(gradient)
        peak = float(wide.abs().amax())
        if not isfinite(peak):
            return False
        if peak == 0:
            return True
        self._divide_by(frexp(peak)[1])
        scaled = wide * 2.0**-self._power
        self.values += (scaled.square() if self._squared else scaled.abs()).sum(dim=1).cpu()
        return True

    def _divide_by(self, power: int) -> None:
        """Divide the sums, and all gradients to come, by a larger power of two."""
        power = min(power, _LARGEST)
        if power > self._power:
            self.values *= 2.0 ** ((self._power - power) * (2 if self._squared else 1))
            self._power = power


def gradient_of(times: Callable[[float], torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Return a gradient in float64, from a function that computes it times a factor in another dtype.

    In float16 small gradients underflow and large ones overflow on their way. A gradient is proportional to the seed of
    its backward pass, so the seed is a power of two by which the gradient is divided afterwards.

    >>> found = gradient_of(lambda factor: torch.tensor([3e-10 * factor]).half(), torch.float16)
    >>> f"{found.item():.2g}", torch.tensor([3e-10]).half().item()
    ('3e-10', 0.0)
    """
    found = _to_double(times(1.0))
    peak = float(found.abs().amax())
    if not isfinite(peak):
        powers = [-10, -20]
    elif dtype is torch.float16 and frexp(peak)[1] < _IN_HALF - _HEADROOM:
        powers = [_IN_HALF if peak == 0 else min(_IN_HALF, _IN_HALF - _HEADROOM - frexp(peak)[1])]
    else:
        powers = []
    for power in powers:
        again = _to_double(times(2.0**power))
        if again.isfinite().all():
            return again / 2.0**power
    return found


def _to_double(gradient: torch.Tensor) -> torch.Tensor:
    """Return a gradient in float64, on the CPU if its device has no float64."""
    gradient = gradient.detach()
    return (gradient.cpu() if gradient.device.type == "mps" else gradient).double()
