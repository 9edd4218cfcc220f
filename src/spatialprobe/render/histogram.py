"""How the values of a layer are distributed, channel by channel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.activations.records import Activation
from spatialprobe.errors import ArgumentError
from spatialprobe.files import replacing
from spatialprobe.render.mosaic import picture_path
from spatialprobe.render.png import png
from spatialprobe.render.scale import Extremes, Values

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ActivationHistogram:
    """The counts behind the picture, and the picture: `array`, `save()`, `to_png()`, `figure()`, as a `Mosaic` has."""

    counts: npt.NDArray[np.int64]  # (channels, bins)
    edges: npt.NDArray[np.float64]  # (bins + 1,) shared by all channels
    zeros: npt.NDArray[np.int64]  # (channels,) values of exactly zero, which are in a bin too
    nonfinite: npt.NDArray[np.int64]  # (channels,) NaN and infinities, which are in no bin
    outside: npt.NDArray[np.int64]  # (channels,) finite values beyond the edges
    channels: npt.NDArray[np.int64]  # (channels,) their numbers
    title: str
    caption: str
    metadata: dict[str, str]  # the text chunks of the PNG

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(channels, bins) the share of each channel's finite values that lies in the bin."""
        finite = self.counts.sum(axis=1) + self.outside
        return np.asarray(self.counts / np.maximum(finite, 1)[:, None])

    @cached_property
    def array(self) -> npt.NDArray[np.uint8]:
        """The figure as an image, (H, W, 3) uint8, as `SummaryWriter.add_image(..., dataformats="HWC")` takes it."""
        from spatialprobe.render.figures import rasterised

        return rasterised(self.figure())

    def with_source(self, source: str) -> ActivationHistogram:
        """The same picture, whose title and text chunks also name where the data come from."""
        return replace(self, title=f"{self.title}: {source}", metadata={**self.metadata, "Source": source})

    def to_png(self) -> bytes:
        """The figure as a PNG whose text chunks carry layer, channels and value range."""
        return png(self.array, None, {"Title": self.title, "Description": self.caption, **self.metadata})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG whole or not at all, and return its path.

        Raises:
            ArgumentError: the name does not end in .png, or its folder does not exist.
        """
        target = picture_path(path, ".png")
        with replacing(target) as scratch:
            scratch.write_bytes(self.to_png())
        return target

    def figure(self, title: str | None = None) -> Figure:
        """All values as a curve, below it each channel as a row of colours, as a `matplotlib.figure.Figure`."""
        from spatialprobe.render.figures import histogram_figure

        return histogram_figure(self, self.title if title is None else title)

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def __repr__(self) -> str:
        return f"ActivationHistogram({self.title!r}, {len(self.counts)} channels, {self.counts.shape[1]} bins)"


def activation_histogram(
    record: Activation,
    *,
    channels: Sequence[int] | None = None,
    bins: int = 80,
    span: tuple[float, float] | None = None,
) -> ActivationHistogram:
    """How a layer's values are distributed: over all samples and units, for each channel and for all together.

    Args:
        record: of any layer with outputs (N, C, ...), or a convolution's without the batch.
        channels: which channels, and in which order; all if left out.
        bins: the number of bins, all of one width.
        span: the values (low, high) that the bins divide; from the least to the greatest value if left out.

    Raises:
        ArgumentError: the record has no channels or no values, or an argument does not fit it.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU())
    >>> histogram = sp.activation_histogram(sp.capture(model, torch.rand(4, 3, 16, 16), layers="1")["1"])
    >>> histogram.counts.shape, int(histogram.counts.sum())
    ((6, 80), 4704)
    """
    values = _by_channel(record)
    count = len(values)
    shown = _shown(count, record.layer, channels)
    values = values[shown]
    extremes = Extremes.of(values)
    edges = _edges(extremes, bins, span)
    finite = np.isfinite(values)
    counts = np.stack([np.histogram(row[known], edges)[0] for row, known in zip(values, finite, strict=True)])
    zeros, nonfinite = (values == 0).sum(axis=1), (~finite).sum(axis=1)
    outside = finite.sum(axis=1) - counts.sum(axis=1)
    return ActivationHistogram(
        counts=counts.astype(np.int64),
        edges=edges,
        zeros=zeros,
        nonfinite=nonfinite,
        outside=outside,
        channels=shown,
        title=f"{record.layer or record.module_type}, {record.at.replace('_', ' ')}: how its values are distributed",
        caption=" ".join(_words(count, values.shape, zeros, nonfinite, outside)),
        metadata={
            "Software": "spatialprobe",
            "Layer": f"{record.layer} ({record.module_type}), {record.at}",
            "Channels": " ".join(map(str, shown.tolist())),
            "Scale": f"{bins} bins from {edges[0]:.6g} to {edges[-1]:.6g}",
            "Value range": extremes.words(),
        },
    )


def _by_channel(record: Activation) -> Values:
    """The values (C, everything else)."""
    tensor = record.tensor.detach().cpu()
    if record.conv and tensor.ndim == len(record.conv.kernel_size) + 1:  # a single image without a batch
        tensor = tensor[None]
    if tensor.ndim < 2 or not tensor.numel() or tensor.dtype.is_complex:
        raise ArgumentError(
            f"Layer {record.layer!r} handed on {record.shape} of {record.dtype}: a histogram needs real values "
            "(N, C, ...), at least one."
        )
    return np.asarray(tensor.transpose(0, 1).flatten(1).double())


def _shown(count: int, layer: str, channels: Sequence[int] | None) -> npt.NDArray[np.int64]:
    shown = np.arange(count) if channels is None else np.asarray(channels)
    if shown.ndim != 1 or not len(shown) or shown.dtype.kind not in "iu" or shown.min() < 0 or shown.max() >= count:
        raise ArgumentError(f"Layer {layer!r} has channels 0 to {count - 1}: channels cannot be {channels!r}.")
    return shown.astype(np.int64)


def _edges(extremes: Extremes, bins: int, span: tuple[float, float] | None) -> npt.NDArray[np.float64]:
    """The borders of the bins; around a single value, one unit wide."""
    if bins < 1:
        raise ArgumentError(f"bins must be at least 1, not {bins}.")
    low, high = span or (np.fmin.reduce(extremes.low), np.fmax.reduce(extremes.high))
    if span and not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ArgumentError(f"span=(low, high) needs two finite numbers, the lower first, not {span!r}.")
    if not np.isfinite(low):
        low, high = 0.0, 1.0
    if not low < high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _words(
    count: int,
    shape: tuple[int, ...],
    zeros: npt.NDArray[np.int64],
    nonfinite: npt.NDArray[np.int64],
    outside: npt.NDArray[np.int64],
) -> list[str]:
    """How to read the picture, and what it cannot show."""
    values = shape[0] * shape[1]
    silent = int((zeros == shape[1]).sum())
    words = [
        f"{shape[0]} of {count} channels, {shape[1]} values each.",
        "Above all together, below a row for each; shares on a logarithmic scale, white where there is none.",
        f"{zeros.sum() / values:.1%} of the values are exactly zero.",
    ]
    words += [f"{silent} dead channel{'s' * (silent > 1)} (zero everywhere)."] if silent else []
    words += [f"{int(nonfinite.sum())} values are not finite, and in no bin."] if nonfinite.any() else []
    words += [f"{outside.sum() / values:.2%} of the values lie beyond the bins."] if outside.any() else []
    return words
