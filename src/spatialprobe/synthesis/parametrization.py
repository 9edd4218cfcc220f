"""Images as functions of free parameters, among which gradient ascent searches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

Parametrization = Literal["fourier", "pixel"]


@dataclass(frozen=True)
class Canvas:
    """The images that are searched: a logistic function of each pixel keeps them within bounds.

    The pixels are parameters themselves ("pixel"), or sums of waves ("fourier"), whose amplitudes are in proportion to
    the wavelength, as those of natural images are: so ascent finds smooth patterns before fine noise [Olah et al.
    2017].

    >>> canvas = Canvas("fourier", 3, (8, 8), (0.0, 1.0))
    >>> images = canvas.images(canvas.draw(torch.Generator().manual_seed(0), contrast=1.0)[None])
    >>> images.shape, bool((images > 0).all() and (images < 1).all())
    (torch.Size([1, 3, 8, 8]), True)
    """

    parametrization: Parametrization
    channels: int  # of the input
    sides: tuple[int, ...]  # pixels along each spatial axis; empty for an input without
    bounds: tuple[float, float]  # which pixels never reach

    @property
    def is_waves(self) -> bool:
        """Whether parameters are amplitudes of waves; a single pixel has none."""
        return self.parametrization == "fourier" and prod(self.sides) > 1

    def draw(self, generator: torch.Generator, contrast: float) -> torch.Tensor:
        """Return random parameters of one image, on the CPU: around the middle of the bounds, with this contrast."""
        shape: tuple[int, ...] = (self.channels, *self.sides)
        if self.is_waves:
            shape = (self.channels, *self._amplitudes().shape, 2)
        return contrast * torch.randn(shape, generator=generator, device="cpu")

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images (N, channels, *sides) of parameters (N, ...), differentiable."""
        values = parameters
        if self.is_waves:
            waves = torch.view_as_complex(parameters) * self._amplitudes().to(parameters.device)
            axes = tuple(range(-len(self.sides), 0))
            values = torch.fft.irfftn(waves, s=self.sides, dim=axes, norm="ortho")
        low, high = self.bounds
        return low + (high - low) * values.sigmoid()

    def _amplitudes(self) -> torch.Tensor:
        """Return the amplitude of each wave, the half spectrum of the sides: in proportion to the wavelength."""
        *others, last = self.sides
        squares = torch.fft.rfftfreq(last, device="cpu").square()
        for side in reversed(others):
            along = torch.fft.fftfreq(side, device="cpu").square()
            squares = along.reshape(-1, *[1] * squares.ndim) + squares
        longest = 1 / max(self.sides)  # cycles per pixel; the mean counts as the longest wave
        amplitudes: torch.Tensor = 1 / squares.sqrt().clamp(min=longest)
        scaled: torch.Tensor = amplitudes / amplitudes.square().mean().sqrt()
        return scaled
