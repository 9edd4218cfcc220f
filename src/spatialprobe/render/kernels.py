"""The kernels of a convolution as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spatialprobe.activations.records import ConvSpec
from spatialprobe.arguments import as_channels, as_int, as_range
from spatialprobe.errors import ArgumentError
from spatialprobe.render.maps import flat_tiles, slice_words
from spatialprobe.render.marks import Marks
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import NONFINITE, palette
from spatialprobe.render.scale import Extremes, Scale, ScaleChoice, Values, choose_scale, quantize
from spatialprobe.render.sheet import Grid, lay_out, room_for
from spatialprobe.tensors import dense_values
from spatialprobe.text import format_count, kind_of


def kernels(
    conv: nn.Module,
    *,
    channels: Sequence[int] | None = None,
    limit: int | None = None,
    scale: ScaleChoice = "robust",
    columns: int | None = None,
) -> Mosaic:
    """Every output channel's kernel, under its channel number, all on one scale.

    Two-dimensional kernels of a convolution over three channels, as a first layer's, are drawn in color: red, green
    and blue are the weights for the three, gray is zero. Of others the input channel with the largest norm is drawn, in
    colors that diverge around zero; where there is room its number stands in brackets.

    Args:
        conv: a convolution over one, two or three axes, transposed or not.
        channels: which output channels, and in which order; all if left out.
        limit: how many to show at most.
        scale: "robust", one range for all kernels, hidden ones too, up to the 99.5th percentile of the magnitudes;
            "layer", the same up to the largest; "map", one range for each kernel; or a range (low, high), which is
            made to reach equally far on both sides of zero.
        columns: the number of columns; chosen to fit if left out.

    Raises:
        ArgumentError: it is not a convolution, or one whose kernels cannot be drawn: lazy, on the meta device, complex.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> sp.kernels(nn.Conv2d(3, 6, 3)).title
    '6 kernels of 3 x 3'
    >>> sp.kernels(nn.Conv2d(6, 12, 3)).caption.split(".")[0]
    'Of each kernel the input channel with the largest norm is shown, 5 of 6 are hidden'
    """
    spec = ConvSpec.of(conv)
    if spec is None:
        raise ArgumentError(f"kernels() draws the kernels of convolutions, not of {kind_of(conv)}.")
    reason = why_no_kernels(conv)
    if reason is not None:
        raise ArgumentError(reason)
    weights = weights_of(conv, spec)
    drawing = _Drawing(weights, spec.groups, _choose_channels(len(weights), channels, limit), scale, columns)
    in_color = weights.shape[1] == 3 and spec.groups == 1 and weights.ndim == 4
    return _draw_in_color(drawing) if in_color else _draw_strongest(drawing)


@dataclass(frozen=True)
class _Drawing:
    """What is drawn of the kernels of a convolution, and how."""

    weights: Values  # (C_out, C_in / groups, *axes)
    groups: int
    shown: npt.NDArray[np.int64]  # the output channels, in their order
    scale: ScaleChoice
    columns: int | None

    @property
    def title(self) -> str:
        """How many kernels of which size."""
        return f"{format_count(len(self.shown), 'kernel')} of {' x '.join(map(str, self.weights.shape[2:]))}"

    @property
    def hidden(self) -> list[str]:
        """The sentence that says how many kernels are shown, in a list; an empty list where all are."""
        count = len(self.weights)
        return [] if len(self.shown) == count else [f"{len(self.shown)} of {format_count(count, 'kernel')} shown."]


def _choose_channels(count: int, channels: Sequence[int] | None, limit: int | None) -> npt.NDArray[np.int64]:
    """Return the output channels to draw."""
    if limit is not None:
        as_int(limit, "limit", least=1)
    chosen = np.arange(count) if channels is None else as_channels(channels, count, "The convolution")
    return chosen[:limit].astype(np.int64)


def _around_zero(weights: Values, choice: ScaleChoice) -> Scale:
    """Return the scale of weights, which reaches equally far on both sides of zero whatever their signs."""
    if not isinstance(choice, str):
        low, high = as_range(choice, "scale")
        reach = max(abs(low), abs(high))
        return choose_scale(weights, (-reach, reach))
    scale = choose_scale(weights, choice)
    return replace(scale, signed=True, low=-scale.high)


def why_no_kernels(conv: nn.Module) -> str | None:
    """Return why the kernels of a convolution cannot be drawn, with what to do; None if they can."""
    weight, name = _weight_of(conv), type(conv).__name__
    if is_lazy(weight):
        return f"This {name} has no weights yet: run the model once on an input, then draw its kernels."
    if weight.is_meta:
        return f"The weights of this {name} are on the meta device, where tensors have no values: load them first."
    if weight.is_complex():
        return (
            f"The kernels of this {name} are complex ({weight.dtype}): copy their abs(), real or imag into a "
            "convolution of real weights to draw them."
        )
    return None if weight.numel() else f"This {name} has weights {tuple(weight.shape)}: there is no kernel to draw."


def _weight_of(conv: nn.Module) -> torch.Tensor:
    weight: torch.Tensor = conv.weight  # type: ignore[assignment]
    return weight


def weights_of(conv: nn.Module, spec: ConvSpec) -> Values:
    """Return the kernels, float32 (C_out, C_in / groups, *axes), of a convolution whose kernels can be drawn."""
    weight = dense_values(None, _weight_of(conv).detach()).cpu().float()
    if spec.transposed:  # (C_in, C_out / groups, *axes)
        apart = weight.unflatten(0, (spec.groups, -1))  # type: ignore[no-untyped-call]
        weight = apart.transpose(1, 2).flatten(0, 1)
    return np.ascontiguousarray(weight)


def _draw_in_color(drawing: _Drawing) -> Mosaic:
    """Return the picture of kernels over red, green and blue."""
    weights, shown = drawing.weights, drawing.shown
    scale, chosen = _around_zero(weights, drawing.scale).of(shown), weights[shown]
    extremes = Extremes.of(chosen)
    finite, reach = np.isfinite(chosen), scale.high[:, None, None, None]
    share = np.clip(np.where(finite, chosen, 0) / reach, -1, 1)
    tiles = np.round(127.5 + 127.5 * share).astype(np.uint8).transpose(0, 2, 3, 1)
    tiles[~finite.all(axis=1)] = palette(False)[NONFINITE]
    ends = "" if not scale.shared else f", full color {scale.ends()[1]}, none {scale.ends()[0]}"
    words = f"Red, green and blue are the three input channels: gray is 0{ends}."
    beyond = [scale.words()] if scale.beyond or not scale.shared else []
    marks = Marks.of(extremes)
    grid = Grid.of(len(tiles), tiles.shape[1], tiles.shape[2], drawing.columns)
    sheet = lay_out(tiles, marks.labels(shown.tolist(), grid), grid)
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=drawing.title,
        caption=" ".join([*drawing.hidden, words, *beyond, *marks.words(hatched=False)]),
        metadata=_metadata(weights, shown, extremes, "color over three input channels", " ".join([words, *beyond])),
    )


def _draw_strongest(drawing: _Drawing) -> Mosaic:
    """Return the picture of the input channel with the largest norm of each kernel."""
    weights, shown = drawing.weights, drawing.shown
    norms = np.square(np.where(np.isfinite(weights), weights, 0)).reshape(*weights.shape[:2], -1).sum(axis=2)
    source = norms.argmax(axis=1)
    drawn = weights[np.arange(len(weights)), source]
    scale, drawn = _around_zero(drawn, drawing.scale).of(shown), drawn[shown]
    extremes = Extremes.of(drawn)
    marks = Marks.of(extremes)
    tiles = flat_tiles(quantize(drawn, scale), signed=True)
    grid = Grid.of(len(tiles), tiles.shape[1], tiles.shape[2], drawing.columns)
    inputs = weights.shape[1]
    first = np.arange(len(weights)) // (len(weights) // drawing.groups) * inputs  # the group's first input channel
    hidden = f"Of each kernel the input channel with the largest norm is shown, {inputs - 1} of {inputs} are hidden."
    sheet = lay_out(tiles, marks.labels(_names(shown, (first + source)[shown], grid), grid), grid, marks.dead)
    words = [*([hidden] if inputs > 1 else []), scale.words(), *slice_words(drawn), *marks.words()]
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=drawing.title,
        caption=" ".join([*drawing.hidden, *words]),
        color_bar=ColorBar.of(scale),
        metadata=_metadata(weights, shown, extremes, f"largest of {inputs} input channels", scale.words()),
        colors=palette(signed=True),
    )


def _names(shown: npt.NDArray[np.int64], inputs: Values, grid: Grid) -> list[str]:
    """Return the numbers of output channels, each with that of its input channel if there is room for all of them."""
    names = [f"{channel} [{source}]" for channel, source in zip(shown.tolist(), inputs.tolist(), strict=True)]
    return names if all(room_for(name, grid) for name in names) else [str(channel) for channel in shown.tolist()]


def _metadata(
    weights: Values, channels: npt.NDArray[np.int64], extremes: Extremes, shown: str, scale: str
) -> dict[str, str]:
    return {
        "Software": "spatialprobe",
        "Kernels": f"{' x '.join(map(str, weights.shape))}, {shown}",
        "Channels": " ".join(map(str, channels.tolist())),
        "Scale": scale,
        "Value range": extremes.words(),
    }
