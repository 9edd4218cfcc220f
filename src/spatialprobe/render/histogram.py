"""Pictures of the distribution of a layer's values, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.activations.records import Activation, channels_of, with_layout
from spatialprobe.arguments import as_channels, check_text
from spatialprobe.errors import ArgumentError
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.render.counts import Counts, Floats, Integers
from spatialprobe.render.picture import Picture
from spatialprobe.render.png import png
from spatialprobe.render.scale import Extremes, Values
from spatialprobe.text import format_count, kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialprobe.statistics.histogram import HistogramResult

_BINS = 80


@dataclass(frozen=True, eq=False)
class ActivationHistogram(Picture):
    """Counts and their picture: `array`, `save()`, `to_png()` and `figure()`, as a `Mosaic` has them.

    >>> import torch, spatialprobe as sp
    >>> histogram = sp.activation_histogram(sp.capture(torch.nn.Conv2d(3, 6, 3), torch.rand(4, 3, 16, 16))[""])
    >>> histogram
    ActivationHistogram('Conv2d, output: how its values are distributed', 6 channels, 80 bins)
    >>> histogram.shares.sum(axis=1).round(6).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    counts: Integers  # (channels, bins) values in each bin
    edges: Floats  # (bins + 1,) shared by all channels
    outside: Integers  # (channels,) finite values beyond the edges
    zeros: Integers | None  # (channels,) values of exactly zero, which are in a bin too; None where not known
    nonfinite: Integers | None  # (channels,) NaN and infinities, which are in no bin; None where not known
    channels: Integers  # (channels,) their numbers
    title: str
    caption: str
    metadata: Mapping[str, str]  # the text chunks of the PNG

    @property
    def shares(self) -> Floats:
        """(channels, bins) the share of each channel's finite values that lies in the bin."""
        finite = self.counts.sum(axis=1) + self.outside
        return np.asarray(self.counts / np.maximum(finite, 1)[:, None])

    @cached_property
    def array(self) -> npt.NDArray[np.uint8]:
        """The figure as an image, (H, W, 3) uint8, as `SummaryWriter.add_image(..., dataformats="HWC")` takes it."""
        from spatialprobe.render.figures import rasterize

        return rasterize(self.figure())

    def with_source(self, source: str) -> ActivationHistogram:
        """The same picture, whose title and text chunks also name where the data come from."""
        check_text(source, "source")
        return replace(self, title=f"{self.title}: {source}", metadata={**self.metadata, "Source": source})

    def to_png(self) -> bytes:
        """The figure as a PNG whose text chunks carry layer, channels, bins and value range."""
        return png(self.array, None, self._text_chunks())

    def _draw(self, title: str, width: float | None, dpi: float | None) -> Figure:
        from spatialprobe.render.histogram_page import histogram_figure

        return histogram_figure(self, title, width, dpi)

    def __repr__(self) -> str:
        channels, bins = self.counts.shape
        return f"ActivationHistogram({self.title!r}, {format_count(channels, 'channel')}, {format_count(bins, 'bin')})"


def activation_histogram(
    record: Activation | HistogramResult,
    *,
    channels: Sequence[int] | None = None,
    bins: int | None = None,
    span: tuple[float, float] | None = None,
    layout: LayoutChoice = "auto",
) -> ActivationHistogram:
    """Return how a layer's values are distributed: for each channel, and for all together.

    Args:
        record: of any layer with outputs (N, C, ...), or a convolution's without the batch: all its samples and units
            are counted. Or one layer's result of the `Histogram` reducer, for a whole data set; it has bins of its
            own, and channels whose bins differ are drawn in those of the coarsest, or in wider ones where these are
            many.
        channels: which channels, and in which order; all if left out.
        bins: the number of bins that a record's values are counted into, all of one width; 80 if left out.
        span: the values (low, high) that these bins divide; from the least to the greatest value if left out.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid, without leading tokens; or "auto", the
            record's own `layout`.

    Raises:
        ArgumentError: the record has no channels or no values, or an argument does not fit it.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU())
    >>> histogram = sp.activation_histogram(sp.capture(model, torch.rand(4, 3, 16, 16), layers="1")["1"])
    >>> histogram.counts.shape, int(histogram.counts.sum())
    ((6, 80), 4704)
    """
    check_layout(layout)
    if isinstance(record, Activation):
        record = with_layout(record, layout)
        values = _by_channel(record)
        count, shown = len(values), _shown(len(values), f"Layer {record.layer!r}", channels)
        found = Counts.of_values(values[shown], _BINS if bins is None else bins, span)
        named = f"{record.layer or record.module_type}, {record.at.replace('_', ' ')}: how its values are distributed"
        layer = f"{record.layer} ({record.module_type}), {record.at}"
        about = {"Layer": layer, "Value range": Extremes.of(values[shown]).words()}
    else:
        if not hasattr(record, "counts"):
            raise ArgumentError(
                "activation_histogram() takes a record, such as probe['conv1'], or one layer's result of the Histogram "
                f"reducer, not {kind_of(record)}."
            )
        if bins is not None or span is not None or layout != "auto":
            raise ArgumentError(
                "bins=, span= and layout= are for records: a swept histogram has been counted, into bins of its own. "
                "Sweep with partial(sp.Histogram, bins=..., low=..., high=...)."
            )
        count, shown = len(record.counts), _shown(len(record.counts), "The histogram", channels)
        found = Counts.of_histogram(record, shown)
        swept = getattr(record, "layer", None)
        named = f"{swept or 'A layer'}, over a data set: how its values are distributed"
        about = {"Layer": swept} if swept else {}
    return ActivationHistogram(
        counts=found.inside,
        edges=found.edges,
        outside=found.outside,
        zeros=found.zeros,
        nonfinite=found.nonfinite,
        channels=shown,
        title=named,
        caption=" ".join(_words(found, count)),
        metadata={"Software": "spatialprobe", **_metadata(found, shown), **about},
    )


def _by_channel(record: Activation) -> Values:
    """The values (C, everything else)."""
    tensor = channels_of(record)
    if record.conv and tensor.ndim == len(record.conv.kernel_size) + 1:  # a single image without a batch
        tensor = tensor[None]
    if tensor.ndim < 2 or not tensor.numel() or tensor.dtype.is_complex:
        raise ArgumentError(
            f"Layer {record.layer!r} returned {record.shape} of {record.dtype}: a histogram needs real values "
            "(N, C, ...), at least one."
        )
    return np.asarray(tensor.transpose(0, 1).flatten(1).double())


def _shown(count: int, whose: str, channels: Sequence[int] | None) -> Integers:
    return np.arange(count) if channels is None else as_channels(channels, count, whose)


def _words(found: Counts, count: int) -> list[str]:
    """Return the sentences that say how to read the picture, and what it cannot show."""
    each = found.inside.sum(axis=1) + found.outside + (0 if found.nonfinite is None else found.nonfinite)
    total = max(1, int(each.sum()))
    numbers = f"{each.min()} values each" if each.min() == each.max() else f"{each.min()} to {each.max()} values each"
    words = [
        f"{len(each)} of {format_count(count, 'channel')}, {numbers}.",
        "Above all together, below a row for each; shares on a logarithmic scale, white where there is none.",
    ]
    if found.zeros is not None:
        silent = int((found.zeros == each).sum())
        words += [f"{found.zeros.sum() / total:.1%} of the values are exactly zero."]
        words += [f"{silent} dead channel{'s' * (silent > 1)} (zero everywhere)."] if silent else []
    if found.nonfinite is not None and found.nonfinite.any():
        words += [f"{int(found.nonfinite.sum())} values are not finite, and in no bin."]
    if found.outside.any():
        words += [f"{found.outside.sum() / total:.2%} of the values lie beyond the bins."]
    return words


def _metadata(found: Counts, shown: Integers) -> dict[str, str]:
    """Return the metadata of a file that is seen on its own, as far as counts say."""
    used = np.flatnonzero(found.inside.any(axis=0))
    low, high = (found.edges[used[0]], found.edges[used[-1] + 1]) if len(used) else (found.edges[0], found.edges[-1])
    return {
        "Channels": " ".join(map(str, shown.tolist())),
        "Scale": f"{len(found.edges) - 1} bins from {found.edges[0]:.6g} to {found.edges[-1]:.6g}",
        "Value range": f"within {low:.6g} to {high:.6g}",
    }
