"""The direction of stripes that each channel of a layer prefers, and how selective it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real

import numpy as np
import torch
from torch import nn

from spatialprobe.arguments import as_int, as_ints, short_repr
from spatialprobe.errors import ArgumentError, ForwardError, UnsupportedOutputError
from spatialprobe.evidence.layer import LayerLayout, compute_outputs
from spatialprobe.evidence.result import Floats
from spatialprobe.html_fields import format_fields_html
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import compute_units_apart
from spatialprobe.model.weights import dtype_of
from spatialprobe.text import format_count

FREQUENCIES = (0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)  # cycles per pixel
_MEAN, _AMPLITUDE = 0.5, 0.5
_MOST_FREQUENCIES = 2**16  # read from a user's iterable, which may be endless
_SIDES = (32, 64, 128, 256)  # pixels
_NOISES = 8  # images of noise in which the border is changed, so that dead units do not hide that it is seen


@dataclass(frozen=True, eq=False)
class OrientationTuning:
    """The response of each channel of a layer to gratings.

    An angle is the direction in which the brightness changes: 0 is along x, so that stripes are vertical; 90 is along
    y, so that they are horizontal; 45 is from the upper left to the lower right. A channel that responds to no grating
    has selectivity 0, and NaN for angle and frequency.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 1, 3, bias=False)
    >>> _ = conv.weight.data.copy_(torch.tensor([[-1.0, 0.0, 1.0]] * 3))
    >>> tuning = sp.evidence.orientation_tuning(conv, "")
    >>> tuning.n, tuning.angle.round(6).tolist(), tuning.response.shape
    (2880, [0.0], (1, 36, 10))
    """

    layer: str
    n: int  # gratings shown: angles x frequencies x phases
    angle: Floats  # (C,) degrees in [0, 180): the preferred direction
    selectivity: Floats  # (C,) from 0, the same in all directions, to 1, one direction only
    frequency: Floats  # (C,) cycles per pixel, of the strongest response
    response: Floats  # (C, angles, frequencies): root mean square over phases of the difference from plain gray
    angles: Floats  # (angles,) degrees
    frequencies: Floats  # (frequencies,) cycles per pixel

    def _repr_html_(self) -> str:
        """The numbers for a notebook."""
        return format_fields_html(self, self.layer)

    def __repr__(self) -> str:
        shown = f"selectivity {self.selectivity.min():.2f} to {self.selectivity.max():.2f}"
        channels = format_count(len(self.angle), "channel")
        return f"OrientationTuning({self.layer!r}, {channels}, {shown}, n={self.n} gratings)"


def orientation_tuning(
    model: nn.Module,
    layer: str | nn.Module,
    *,
    shape: tuple[int, int, int] | None = None,
    angles: int = 36,
    phases: int = 8,
    frequencies: Sequence[float] = FREQUENCIES,
    batch_size: int = 256,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> OrientationTuning:
    """Return the stripes that each channel prefers, from responses to gratings of many angles, frequencies and phases.

    The gratings are gray, between 0 and 1. The response to one angle and frequency is the root mean square, over
    phases, of the difference between the middle unit's values for the grating and for plain gray: the amplitude of a
    linear filter, the rise of a pooled or rectified unit. At the frequency with the strongest response to any angle,
    selectivity is one minus the circular variance of the responses, and the angle is their circular mean [Ringach et
    al. 2002]. The model runs in evaluation mode, no further than the layer, and is restored afterwards.

    Args:
        model: any module that takes images (N, C, H, W).
        layer: its name, or the module itself; of several runs the first counts. Where its outputs are (N, C), the
            channels are units that see the whole grating.
        shape: of one image, (C, H, W). By default as many channels as the model's first convolution takes, and 32
            pixels a side, or 64, 128 or 256 where the field of the middle unit needs more.
        angles: the number of angles, evenly spaced over 180 degrees.
        phases: the number of phases, evenly spaced over a period.
        frequencies: cycles per pixel, above 0 and at most 0.5.
        batch_size: gratings that run at once.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the images.

    Raises:
        ArgumentError: an argument cannot be used, or the middle unit's field reaches the image's border.
        LayerNotFoundError: no such layer; the message names the nearest.
        UnsupportedOutputError: the layer's output is neither (N, C, H, W) nor (N, C), or it cannot be determined which
            of its axes holds the channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> conv = nn.Conv2d(1, 2, 3, bias=False)
    >>> across = torch.tensor([[-1.0, 0.0, 1.0]] * 3)
    >>> _ = conv.weight.data.copy_(torch.stack([across, across.T])[:, None])
    >>> sp.evidence.orientation_tuning(conv, "").angle.round().tolist()
    [0.0, 90.0]
    """
    model = called_by(model, forward)
    chosen = select_one(model, layer)
    name = chosen.name
    angles, phases = as_int(angles, "angles", least=3), as_int(phases, "phases", least=3)
    batch_size = as_int(batch_size, "batch_size", least=1)
    frequencies = _check_frequencies(frequencies)
    directions: Floats = np.arange(angles, dtype=np.float64) * (180 / angles)
    with EvaluationMode(model) as mode:
        shapes = _propose_shapes(model) if shape is None else [_check_shape(shape)]
        found = LayerLayout(model, chosen, layout)
        size = _guess_shape(mode, name, found, shapes) if shape is None else _find_shape(mode, name, found, shapes)
        response = _measure_responses(mode, name, found, size, directions, frequencies, phases, batch_size)
    angle, selectivity, best = _find_preferred(response, directions, np.array(frequencies, np.float64))
    return OrientationTuning(
        layer=name,
        n=angles * phases * len(frequencies),
        angle=angle,
        selectivity=selectivity,
        frequency=best,
        response=response,
        angles=directions,
        frequencies=np.array(frequencies, np.float64),
    )


def _measure_responses(
    mode: EvaluationMode,
    layer: str,
    layouts: LayerLayout,
    size: tuple[int, int, int],
    directions: Floats,
    frequencies: Sequence[float],
    phases: int,
    batch_size: int,
) -> Floats:
    """Return each channel's response to each direction and frequency, (C, angles, frequencies)."""
    dtype = dtype_of(mode.model)
    plain = torch.full((1, *size), _MEAN, dtype=dtype, device="cpu")
    gray = _take_middle(compute_outputs(mode, plain, layer, layout=layouts.on(plain)), layer)[0]
    found = []
    for frequency in frequencies:
        shown = (
            _take_middle(compute_outputs(mode, some.to(dtype), layer, layout=layouts.on(some.to(dtype))), layer) - gray
            for some in torch.split(draw_gratings(directions, frequency, phases, size), batch_size)
        )
        each = torch.cat(list(shown)).reshape(len(directions), phases, -1)
        found.append(each.square().mean(dim=1).sqrt().cpu().numpy())
    return np.stack(found, axis=-1).transpose(1, 0, 2)


def draw_gratings(directions: Floats, frequency: float, phases: int, size: tuple[int, int, int]) -> torch.Tensor:
    """Return gray gratings, float64 (angles * phases, C, H, W), phase by phase for each direction in degrees."""
    channels, height, width = size
    y, x = np.mgrid[:height, :width] - np.array([height // 2, width // 2])[:, None, None]
    radians = np.radians(directions)[:, None, None, None]
    along = x * np.cos(radians) + y * np.sin(radians)  # (angles, 1, H, W) pixels
    shift = np.arange(phases)[:, None, None] / phases
    waves = _MEAN + _AMPLITUDE * np.cos(2 * np.pi * (frequency * along + shift))
    made = torch.from_numpy(waves).reshape(-1, 1, height, width)
    return made.expand(-1, channels, -1, -1)


def _find_preferred(response: Floats, directions: Floats, frequencies: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the angle, selectivity and frequency of each channel, from responses (C, angles, frequencies)."""
    best = response.max(axis=1).argmax(axis=1)
    tuning = response[np.arange(len(response)), :, best]  # (C, angles)
    total = tuning.sum(axis=1)
    responds = total > 1e-6 * max(1e-30, float(total.max(initial=0)))  # less is rounding
    with np.errstate(invalid="ignore", divide="ignore"):
        vector = (tuning * np.exp(2j * np.radians(directions))).sum(axis=1) / total
    angle = np.degrees(np.angle(vector)) / 2 % 180
    angle[angle >= 180 - 1e-9] = 0  # the remainder of a tiny negative angle
    return (
        np.where(responds, angle, np.nan),
        np.where(responds, np.abs(vector), 0.0).clip(0, 1),
        np.where(responds, frequencies[best], np.nan),
    )


def _take_middle(output: torch.Tensor, layer: str) -> torch.Tensor:
    """Return the unit in the middle of each map, float64 (N, C)."""
    if output.ndim == 4:
        return output[:, :, output.shape[2] // 2, output.shape[3] // 2].double()
    if output.ndim == 2:
        return output.double()
    raise UnsupportedOutputError(
        f"Layer {layer!r} returned {tuple(output.shape)}: orientation tuning needs maps (N, C, H, W) or units (N, C). "
        "Choose another layer."
    )


def _guess_shape(
    mode: EvaluationMode, layer: str, layouts: LayerLayout, shapes: Sequence[tuple[int, int, int]]
) -> tuple[int, int, int]:
    """Return a shape of images where the user passed none."""
    try:
        return _find_shape(mode, layer, layouts, shapes)
    except ForwardError as error:
        raise ForwardError(
            f"{error} Their shape is a guess, with as many channels as the first convolution takes. Pass the right one "
            "as shape=(C, H, W)."
        ) from error.__cause__


def _find_shape(
    mode: EvaluationMode, layer: str, layouts: LayerLayout, shapes: Sequence[tuple[int, int, int]]
) -> tuple[int, int, int]:
    """Return the first shape whose middle unit sees none of the border, where every grating ends."""
    for size in shapes:
        side = _find_side_seen(mode, size, layer, layouts)
        if side is None:
            return size
    raise ArgumentError(
        f"The field of the middle unit of layer {layer!r} reaches the {side} border of images of {size[1]} x {size[2]},"
        " where every grating ends. Pass the shape of larger images, shape=(C, H, W)."
    )


def _find_side_seen(mode: EvaluationMode, size: tuple[int, int, int], layer: str, layouts: LayerLayout) -> str | None:
    """Return a side of the image that the middle unit sees; None if there is none, or the units have no positions."""
    noise = torch.rand(_NOISES, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    noise = noise.to(dtype_of(mode.model))
    with compute_units_apart():
        plain = compute_outputs(mode, noise, layer, layout=layouts.on(noise))
        for side, changed in _change_edges(noise) if plain.ndim == 4 else ():
            other = compute_outputs(mode, changed, layer, layout=layouts.on(changed))
            if not torch.equal(_take_middle(other, layer), _take_middle(plain, layer)):
                return side
    return None


def _change_edges(images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield for each side of the images (N, C, H, W) its name, and images that differ in the pixels along it."""
    for side, axis, at in (("top", 2, 0), ("bottom", 2, -1), ("left", 3, 0), ("right", 3, -1)):
        changed = images.clone()
        changed.select(axis, at).add_(1)
        yield side, changed


def _check_frequencies(frequencies: Sequence[float]) -> list[float]:
    """Return frequencies as floats, or raise an error if they cannot be used."""
    try:
        given = list(islice(frequencies, _MOST_FREQUENCIES))
    except Exception:  # user iterables raise anything
        given = []
    if not given or not all(isinstance(one, Real) and 0 < one <= 0.5 for one in given):
        raise ArgumentError(
            "frequencies must be one or more numbers of cycles per pixel, each above 0 and at most 0.5, not "
            f"{short_repr(frequencies)}."
        )
    return [float(one) for one in given]


def _check_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape of an image, (C, H, W), or raise an error if it is none."""
    sizes = as_ints(shape, "shape")
    if len(sizes) != 3 or min(sizes) < 1:
        raise ArgumentError(f"shape must be the shape of one image, (C, H, W), not {short_repr(sizes)}.")
    return sizes


def _propose_shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    """Return the shapes of images to try, the smallest first."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return [(module.in_channels, side, side) for side in _SIDES]
    raise ArgumentError(
        "The model has no nn.Conv2d that tells how many channels it takes. Pass the shape of an image, shape=(C, H, W)."
    )
