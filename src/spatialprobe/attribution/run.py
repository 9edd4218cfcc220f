"""One run of a layer of which an attribution speaks: its value, its layout, and how channels lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.activations.records import At
from spatialprobe.errors import ArgumentError
from spatialprobe.model.layout import Layout, channels_second, leading_tokens
from spatialprobe.model.select import Layer
from spatialprobe.model.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a layer in a forward pass."""

    layer: Layer
    call: int  # the layer's runs, counted from 0
    at: At
    layout: Layout  # "channels_last" for tokens, of which all are units along one axis
    value: torch.Tensor  # as the layer returned it, detached, on its device
    gradient: torch.Tensor | None = None  # of the sum of all scores, like the value
    grid: Tokens | None = None  # of tokens: how they lie in the image

    @property
    def name(self) -> str:
        """The run in a message."""
        return f"layer {self.layer.name or '(model)'!r}" + (f", run {self.call}" if self.call else "")

    @property
    def subject(self) -> str:
        """The run at the beginning of a sentence."""
        return f"L{self.name[1:]}"

    @property
    def channels(self) -> int:
        """How many channels."""
        return self.maps(self.value).shape[1]

    def maps(self, value: torch.Tensor) -> torch.Tensor:
        """Return a value of this run as (N, C, *units), a view."""
        return channels_second(value, self.layout)

    def raw(self, maps: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *units) in the order of axes that the layer returns, a view."""
        return maps.movedim(1, -1) if self.layout == "channels_last" and maps.ndim > 2 else maps

    def placed(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (N, C, *units) with tokens as their grid, and apart (N, L, C) of those that have no place in it."""
        if self.grid is None or maps.ndim < 3:
            return maps, None
        tokens = maps.movedim(1, -1)
        return channels_second(tokens, self.grid), leading_tokens(tokens, self.grid)

    def baseline(self, given: float | torch.Tensor) -> torch.Tensor:
        """Return the baseline as a value of this run, expanded.

        Raises:
            ArgumentError: it does not broadcast to (N, C, *units).
        """
        maps = self.maps(self.value)
        baseline = torch.as_tensor(given, device="cpu" if isinstance(given, float) else None)
        try:
            return self.raw(baseline.detach().to(maps.device, maps.dtype).expand(maps.shape))
        except RuntimeError as error:
            raise ArgumentError(
                f"baseline {tuple(baseline.shape)} does not broadcast to the values {tuple(maps.shape)} of {self.name}"
                ": pass a number, or a tensor (N, C, *units) of that shape, for one layer alone."
            ) from error
