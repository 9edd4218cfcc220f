"""What a layer's channels and units contribute to the scores of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_int
from spatialprobe.attribution.target import Target
from spatialprobe.errors import ArgumentError
from spatialprobe.model.forward import Forward
from spatialprobe.model.layout import Layout
from spatialprobe.render.robust import robust_reach
from spatialprobe.text import format_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialprobe.attribution.picture import Check, MapScale

Method = Literal["gradient_x_activation", "grad_cam", "integrated_gradients", "ablation"]


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked: for pictures, and for what checks an attribution by removing channels."""

    model: nn.Module
    images: Any  # the batch
    forward: Forward | None
    target: Target
    baseline: float | torch.Tensor
    reach: float  # of every picture's scale: contributions times the units of a layer, the largest robust end of all


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the channels and units of one run of a layer contribute to the score of each image.

    All numbers are signed: what is below zero speaks against the answer. They are in units of the score.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    >>> found = sp.attribute(model, torch.rand(4, 3, 16, 16), target=3)["0"]
    >>> found
    Attribution('0', gradient_x_activation, post_activation, 4 images, 6 channels, units (14, 14))
    >>> found.values.shape, found.channels.shape, found.map.shape, found.score.shape
    (torch.Size([4, 6, 14, 14]), torch.Size([4, 6]), torch.Size([4, 14, 14]), torch.Size([4]))
    >>> found.top(2).shape
    torch.Size([4, 2])
    """

    layer: str  # dotted name, as in `named_modules()`
    call: int  # the layer's runs in the forward pass, counted from 0
    at: At  # "output", or "post_activation": of the value of the nonlinearity that follows
    method: Method
    values: torch.Tensor | None  # (N, C, *units) float32, on the CPU; None for "ablation"
    channels: torch.Tensor  # (N, C) float32: the sum over all units, leading tokens included
    map: torch.Tensor | None  # (N, *units) float32: the sum over channels; None for "ablation"
    score: torch.Tensor  # (N,) float32: what is explained, as the model returns it
    target: torch.Tensor  # (N,) int64: the class of each image, -1 where a function says the score
    residual: torch.Tensor | None  # (N,): of integrated gradients, the score's change less the sum of values; else None
    leading: torch.Tensor | None = None  # (N, L, C) float32, of tokens that have no place in the grid; or None
    layout: Layout = field(repr=False, default="channels_first")  # of the layer's own output
    _question: Question = field(repr=False, kw_only=True)

    @property
    def reach(self) -> float:
        """The end of the scale of the layer's maps: a robust magnitude of its contributions, times its units."""
        if self.map is None:
            return 0.0
        return robust_reach(self.map.double().numpy())[0] * self.map[0].numel()

    def top(self, k: int) -> torch.Tensor:
        """Return the k channels of each image that contribute most, (N, k) int64, the largest contribution first.

        Of equal ones the lower number comes first.

        Raises:
            ArgumentError: there are not so many channels.
        """
        count = as_int(k, "k", least=1)
        if count > self.channels.shape[1]:
            raise ArgumentError(
                f"k={count} is more than layer {self.layer!r} has: {format_count(self.channels.shape[1], 'channel')}."
            )
        return self.channels.argsort(dim=1, descending=True, stable=True)[:, :count]

    def plot(
        self,
        sample: int = 0,
        *,
        deletion: Check | None = None,
        image: object = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        scale: MapScale = "all",
        title: str | None = None,
        width: float | None = None,
        dpi: float | None = None,
    ) -> Figure:
        """Return a figure of one image's map over the input, with the pixels that its strongest unit sees.

        Of a volume the slice in the middle of these is shown, and named; a signal is shown as lines.

        Colors are contributions per input pixel, violet for the answer and orange against it. The caption says how the
        attribution was checked by removing channels, or that it was not.

        Args:
            sample: which image.
            deletion: the result of `evidence.channel_deletion` for this attribution.
            image: what to draw over, in place of the image in the batch; (3, H, W), a PIL image or an array (H, W, 3).
            mean: what the image was normalized by, one number or one for each channel, so that it looks as before.
            std: the same.
            scale: "all": one for all layers and images that were attributed together, so that pictures of layers can be
                compared; "layer": one for all images of this layer, where its own range is of interest.
            title: in place of the picture's own.
            width: of the page in inches, as for `Mosaic.figure`.
            dpi: of a raster that is made from the figure.

        Raises:
            ArgumentError: there is no map over two axes (ablation has none), no such sample, or no image.
        """
        from spatialprobe.attribution.picture import draw_attribution  # so that numbers wait for no drawing

        mosaic = draw_attribution(self, sample, deletion, image, mean, std, scale)
        return mosaic.figure(title=title, width=width, dpi=dpi)

    def __repr__(self) -> str:
        images, channels = self.channels.shape
        run = f", run {self.call}" if self.call else ""
        units = f", units {tuple(self.map.shape[1:])}" if self.map is not None else ""
        return (
            f"Attribution({self.layer!r}{run}, {self.method}, {self.at}, {format_count(images, 'image')}, "
            f"{format_count(channels, 'channel')}{units})"
        )
