"""What a checkup has measured: of one layer, of where values are not finite, and of how two passes differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.statistics.bounds import BoundsResult
from spatialprobe.statistics.covariance import ChannelCovarianceResult
from spatialprobe.statistics.moments import MomentsResult


@dataclass(frozen=True, eq=False)
class Measured:
    """One layer, with what the pass over the data measured of it."""

    layer: str
    module: nn.Module
    at: At  # where: "post_activation", or "output" if no single nonlinearity follows the layer
    nonlinearity: str | None  # the function that follows the layer, such as "relu"
    shape: tuple[int, ...]  # of its output for one sample
    samples: int
    results: Mapping[str, Any]  # by reducer

    @property
    def moments(self) -> MomentsResult:
        """Count, mean, variance and range of each channel."""
        return cast(MomentsResult, self.results["moments" if "moments" in self.results else "norm"])

    @property
    def covariance(self) -> ChannelCovarianceResult:
        """The covariance of the channels."""
        return cast(ChannelCovarianceResult, self.results["covariance"])

    @property
    def bounds(self) -> BoundsResult:
        """How many values lie at a bound of the nonlinearity."""
        return cast(BoundsResult, self.results["bounds"])

    @property
    def units(self) -> int:
        """The number of units of one map of one sample, over all runs of the layer."""
        count = self.bounds.count if "bounds" in self.results else self.moments.count
        return round(float(count.max()) / max(1, self.samples)) if len(count) else 0

    @property
    def spread(self) -> float:
        """The standard deviation of the activations around the mean of their channel, over all channels."""
        return float(self.moments.variance.nanmean().clamp(min=0).sqrt()) if len(self.moments.variance) else 0.0


@dataclass(frozen=True, eq=False)
class Nonfinite:
    """Where the first value arose that is not finite."""

    layer: str  # "" also if it arose after all layers
    samples: tuple[int, ...]  # positions in the data
    input_finite: bool  # whether all that the layer took was finite
    maps: torch.Tensor | None = None  # (C, *units), of the first of these samples; None if the layer has none


@dataclass(frozen=True)
class Difference:
    """The first layer whose values differ between two passes."""

    layer: str
    change: float  # relative to the norm of the values, of the sample that changed most
    input_differs: bool  # whether what the layer took differs already
    call: int = 0  # which of the layer's runs
