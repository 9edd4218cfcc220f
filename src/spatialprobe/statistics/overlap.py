"""How often units are active where masks say that something is: intersections and unions over a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.statistics.units import as_units, check_mergeable, check_same_channels, check_samples
from spatialprobe.text import format_count

MasksOf = Callable[[torch.Tensor], torch.Tensor]  # samples (N,) -> bool (R, N, K, U): R readings of K masks


@dataclass(frozen=True, eq=False)
class OverlapResult:
    """The counts of units over a data set, for each of R readings of the masks."""

    both: torch.Tensor  # int64 (R, C, K): units that are active, at a pixel of the mask
    active: torch.Tensor  # int64 (C,): units that are active
    masked: torch.Tensor  # int64 (R, K): units at a pixel of the mask

    def iou(self) -> torch.Tensor:
        """Return the intersection over the union, float64 (R, C, K); 0 where both are empty."""
        union = self.active[:, None] + self.masked[:, None] - self.both
        return self.both.double() / union.clamp(min=1).double()


class Overlap:
    """A reducer to intersections of thresholded units with masks.

    >>> left = torch.tensor([True, True, False, False]).expand(1, 2, 1, 4)
    >>> overlap = Overlap(torch.tensor([0.5]), torch.arange(4), lambda samples: left)
    >>> overlap.update(torch.tensor([[[[0.0, 0.9], [0.8, 0.1]]], [[[0.7, 0.6], [0.0, 0.0]]]]), torch.arange(2))
    >>> overlap.result().iou()
    tensor([[[0.6000]]], dtype=torch.float64)
    """

    def __init__(self, thresholds: torch.Tensor, units: torch.Tensor, masks: MasksOf) -> None:
        self._thresholds = thresholds.double()  # (C,): a unit is active from here on
        self._units = units  # (U,): which units count, in row-major order
        self._masks: MasksOf | None = masks
        self._both = self._active = self._masked = torch.zeros(0, dtype=torch.int64, device="cpu")

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_masks": None}  # other processes merge counts, and read no masks

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Add the values of one batch, (N, C, *spatial)."""
        units = as_units(activation)
        check_samples(samples, activation)
        check_same_channels(len(self._thresholds), units.shape[1])
        if self._masks is None or (len(self._units) and int(self._units.max()) >= units.shape[2]):
            raise ArgumentError(
                f"The layer has {format_count(units.shape[2], 'unit')} here, and another number on the first image. "
                "Pass images of one size."
            )
        active = units[:, :, self._units.to(units.device)].double() >= self._thresholds.to(units.device)[:, None]
        masks = self._masks(samples).to(units.device)
        flat = active.movedim(1, 0).flatten(1).float()  # (C, N * U)
        both = [(flat @ one.movedim(1, 0).flatten(1).float().T).round().long() for one in masks]
        self._add(torch.stack(both).cpu(), active.sum(dim=(0, 2)).cpu(), masks.sum(dim=(1, 3)).cpu())

    def merge(self, other: Overlap) -> None:
        """Add the values that another reducer of the same class has seen.

        Raises:
            ArgumentError: the other is of another class.
        """
        check_mergeable(self, other)
        if len(other._active):
            self._add(other._both, other._active, other._masked)

    def result(self) -> OverlapResult:
        """Return the counts so far."""
        return OverlapResult(self._both.clone(), self._active.clone(), self._masked.clone())

    def _add(self, both: torch.Tensor, active: torch.Tensor, masked: torch.Tensor) -> None:
        seen = len(self._active) > 0
        self._both = self._both + both if seen else both
        self._active = self._active + active if seen else active
        self._masked = self._masked + masked if seen else masked
