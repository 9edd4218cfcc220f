"""The kernels of a convolution as one picture."""

from __future__ import annotations

import numpy as np
from torch import nn

from spatialprobe.activations.records import ConvSpec
from spatialprobe.errors import ArgumentError
from spatialprobe.render.mosaic import ColourBar, Mosaic
from spatialprobe.render.palette import palette
from spatialprobe.render.scale import Values, choose_scale, quantise
from spatialprobe.render.sheet import Grid, lay_out


def kernels(conv: nn.Module, *, columns: int | None = None) -> Mosaic:
    """Every output channel's kernel, under its channel number, all on one scale.

    Kernels over three input channels are drawn in colour: red, green and blue are the weights for the three, grey
    is zero. Of others the input channel with the largest norm is drawn, in colours that diverge around zero.

    Args:
        conv: a two-dimensional convolution, transposed or not.
        columns: the number of columns; chosen to fit if left out.

    Raises:
        ArgumentError: not a two-dimensional convolution.

    >>> import spatialprobe as sp
    >>> from torch import nn
    >>> sp.kernels(nn.Conv2d(3, 6, 3)).title
    '6 kernels of 3 x 3'
    >>> sp.kernels(nn.Conv2d(6, 12, 3)).caption.split(".")[0]
    'Of each kernel the input channel with the largest norm is shown, 1 of 6'
    """
    weights = _weights(conv)
    title = f"{len(weights)} kernels of {weights.shape[2]} x {weights.shape[3]}"
    grid = Grid.of(len(weights), weights.shape[2], weights.shape[3], columns)
    return (_in_colour if weights.shape[1] == 3 else _strongest)(weights, grid, title)


def _weights(conv: nn.Module) -> Values:
    """The kernels (C_out, C_in / groups, h, w)."""
    spec = ConvSpec.of(conv)
    if spec is None or len(spec.kernel_size) != 2:
        raise ArgumentError(f"kernels() draws two-dimensional convolutions, not a {type(conv).__name__}.")
    weight = conv.weight.detach().cpu().float()  # type: ignore[operator]
    if spec.transposed:  # (C_in, C_out / groups, h, w)
        weight = weight.unflatten(0, (spec.groups, -1)).transpose(1, 2).flatten(0, 1)
    return np.asarray(weight)


def _in_colour(weights: Values, grid: Grid, title: str) -> Mosaic:
    """Kernels over red, green and blue."""
    reach = float(np.abs(weights).max()) or 1.0
    tiles = np.round(127.5 + 127.5 * weights / reach).astype(np.uint8).transpose(0, 2, 3, 1)
    caption = (
        f"Red, green and blue are the three input channels: grey is 0, full colour {reach:.4g}, none {-reach:.4g}."
    )
    return Mosaic(
        pixels=lay_out(tiles, _numbers(weights), grid),
        title=title,
        caption=caption,
        metadata=_metadata(weights, "colour over three input channels"),
    )


def _strongest(weights: Values, grid: Grid, title: str) -> Mosaic:
    """Of each kernel the input channel with the largest norm."""
    norms = np.sqrt((weights**2).sum(axis=(2, 3)))
    strongest = weights[np.arange(len(weights)), norms.argmax(axis=1)]
    reach = float(np.abs(strongest).max()) or 1.0
    scale = choose_scale(strongest, (-reach, reach))
    inputs = weights.shape[1]
    words = f"Of each kernel the input channel with the largest norm is shown, 1 of {inputs}. " if inputs > 1 else ""
    return Mosaic(
        pixels=lay_out(quantise(strongest, scale), _numbers(weights), grid),
        title=title,
        caption=f"{words}One scale for the layer: {-reach:.4g} to {reach:.4g}.",
        colour_bar=ColourBar(True, -reach, reach),
        metadata=_metadata(weights, f"largest of {inputs} input channels"),
        colours=palette(signed=True),
    )


def _numbers(weights: Values) -> list[str]:
    return [str(channel) for channel in range(len(weights))]


def _metadata(weights: Values, shown: str) -> dict[str, str]:
    return {
        "Software": "spatialprobe",
        "Kernels": f"{' x '.join(map(str, weights.shape))}, {shown}",
        "Value range": f"{weights.min():.6g} to {weights.max():.6g}",
    }
