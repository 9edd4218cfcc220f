"""The kernels of a convolution as one picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spatialprobe.activations.records import ConvSpec
from spatialprobe.errors import ArgumentError
from spatialprobe.render.maps import flat_tiles, slice_words
from spatialprobe.render.marks import Marks, hatch
from spatialprobe.render.mosaic import ColorBar, Mosaic
from spatialprobe.render.palette import NONFINITE, palette
from spatialprobe.render.scale import Extremes, Values, choose_scale, quantize
from spatialprobe.render.sheet import Grid, lay_out, room_for
from spatialprobe.tensors import dense_values
from spatialprobe.text import counted, kind_of


def kernels(conv: nn.Module, *, columns: int | None = None) -> Mosaic:
    """Every output channel's kernel, under its channel number, all on one scale.

    Two-dimensional kernels of a convolution over three channels, as a first layer's, are drawn in color: red, green
    and blue are the weights for the three, gray is zero. Of others the input channel with the largest norm is drawn, in
    colors that diverge around zero; where there is room its number stands in brackets.

    Args:
        conv: a convolution over one, two or three axes, transposed or not.
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
    title = f"{counted(len(weights), 'kernel')} of {' x '.join(map(str, spec.kernel_size))}"
    in_color = conv.in_channels == 3 and spec.groups == 1 and len(spec.kernel_size) == 2
    return (_in_color if in_color else _strongest)(weights, spec, title, columns)


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


def _in_color(weights: Values, spec: ConvSpec, title: str, columns: int | None) -> Mosaic:
    """Kernels over red, green and blue."""
    extremes = Extremes.of(weights)
    reach = float(extremes.reach.max()) or 1.0
    finite = np.isfinite(weights)
    tiles = np.round(127.5 + 127.5 * np.where(finite, weights, 0) / reach).astype(np.uint8).transpose(0, 2, 3, 1)
    tiles[~finite.all(axis=1)] = palette(False)[NONFINITE]
    words = f"Red, green and blue are the three input channels: gray is 0, full color {reach:.4g}, none {-reach:.4g}."
    marks = Marks.of(extremes)
    grid = Grid.of(len(tiles), tiles.shape[1], tiles.shape[2], columns)
    sheet = lay_out(tiles, marks.labels(range(len(weights)), grid), grid)
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=title,
        caption=" ".join([words, *marks.words(hatched=False)]),
        metadata=_metadata(weights, extremes, "color over three input channels", words),
    )


def _strongest(weights: Values, spec: ConvSpec, title: str, columns: int | None) -> Mosaic:
    """Of each kernel the input channel with the largest norm."""
    norms = np.square(np.where(np.isfinite(weights), weights, 0)).reshape(*weights.shape[:2], -1).sum(axis=2)
    chosen = norms.argmax(axis=1)
    shown = weights[np.arange(len(weights)), chosen]
    extremes = Extremes.of(shown)
    reach = float(extremes.reach.max()) or 1.0
    scale = choose_scale(shown, (-reach, reach), extremes)
    marks = Marks.of(extremes)
    tiles = flat_tiles(quantize(shown, scale))
    hatch(tiles, marks.dead)
    grid = Grid.of(len(tiles), tiles.shape[1], tiles.shape[2], columns)
    inputs = weights.shape[1]
    first = np.arange(len(weights)) // (len(weights) // spec.groups) * inputs  # the group's first input channel
    hidden = f"Of each kernel the input channel with the largest norm is shown, {inputs - 1} of {inputs} are hidden."
    words = f"One scale for the layer: {-reach:.4g} to {reach:.4g}."
    sheet = lay_out(tiles, marks.labels(_names(first + chosen, grid), grid), grid)
    return Mosaic(
        pixels=sheet.pixels,
        labels=tuple(sheet.labels),
        title=title,
        caption=" ".join([*([hidden] if inputs > 1 else []), words, *slice_words(shown), *marks.words()]),
        color_bar=ColorBar.of(scale),
        metadata=_metadata(weights, extremes, f"largest of {inputs} input channels", words),
        colors=palette(signed=True),
    )


def _names(inputs: Values, grid: Grid) -> list[str]:
    """The output channels' numbers, each with that of the input channel drawn, if there is room for all of them."""
    names = [f"{channel} [{source}]" for channel, source in enumerate(inputs.tolist())]
    return names if all(room_for(name, grid) for name in names) else [str(channel) for channel in range(len(inputs))]


def _metadata(weights: Values, extremes: Extremes, shown: str, scale: str) -> dict[str, str]:
    return {
        "Software": "spatialprobe",
        "Kernels": f"{' x '.join(map(str, weights.shape))}, {shown}",
        "Channels": " ".join(map(str, range(len(weights)))),
        "Scale": scale,
        "Value range": extremes.words(),
    }
