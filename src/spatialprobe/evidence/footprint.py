"""The units that change when one pixel does, and those that the receptive field predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from spatialprobe.arguments import as_int, as_ints, make_generator, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.evidence.layer import compute_outputs
from spatialprobe.evidence.result import Bools
from spatialprobe.fields.images import check_images, field_of
from spatialprobe.fields.result import ReceptiveField
from spatialprobe.html_fields import format_fields_html
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import Forward, called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import select_one
from spatialprobe.model.settings import compute_units_apart


@dataclass(frozen=True, eq=False)
class Footprint:
    """The units that a pixel changes, and those whose receptive field holds it.

    In a layer without positions, such as a fully connected one, each channel is a unit.

    >>> import torch, spatialprobe as sp
    >>> found = sp.evidence.footprint(torch.nn.Conv2d(3, 6, 3), torch.rand(2, 3, 16, 16), "", pixel=(8, 8))
    >>> int(found.changed.sum()), found.within, found.equal
    (9, True, True)
    """

    layer: str
    pixel: tuple[int, ...]  # (y, x)
    n: int  # images
    changed: Bools  # (h, w): whether any channel of the unit changed in any image; (C,) without positions
    predicted: Bools  # of that shape: whether the unit's field holds the pixel
    seed: int  # of the random values of the pixel

    @property
    def share(self) -> float:
        """The share of units that changed, 0 to 1."""
        return float(self.changed.mean())

    @property
    def within(self) -> bool:
        """Whether every unit that changed is one that the field predicts."""
        return not (self.changed & ~self.predicted).any()

    @property
    def equal(self) -> bool:
        """Whether the units that changed are exactly those whose field holds the pixel."""
        return bool((self.changed == self.predicted).all())

    def _repr_html_(self) -> str:
        """The numbers for a notebook."""
        changed = {"share": self.share, "equal": self.equal}
        return format_fields_html(self, self.layer, changed)

    def __repr__(self) -> str:
        verdict = "exactly those predicted" if self.equal else f"{int(self.predicted.sum())} predicted"
        return (
            f"Footprint({self.layer!r}, pixel {self.pixel}, n={self.n}: {int(self.changed.sum())} of "
            f"{self.changed.size} units changed, {verdict})"
        )


def footprint(
    model: nn.Module,
    images: torch.Tensor,
    layer: str | nn.Module,
    pixel: tuple[int, ...],
    *,
    draws: int = 4,
    seed: int = 0,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> Footprint:
    """Return the units that change when one pixel does, as measured, and those that the receptive field predicts.

    The pixel is set to values drawn from a range three times as wide as that of the images, each color separately, and
    the outputs of the layer are compared bit for bit. The units that change are among those predicted. A predicted unit
    that does not change is dead or saturated in these images, loses the pixel in a maximum, or has it between the taps
    of a dilated kernel. The model runs in evaluation mode and is restored afterwards.

    Args:
        model: any module that takes images.
        images: (N, C, *spatial), floating point, as the model takes them.
        layer: its name, or the module itself; of several runs the first counts.
        pixel: its position, (y, x) for images of two axes.
        draws: how many values the pixel is set to in turn.
        seed: of those values.
        layout: of the layer's output: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, a grid of tokens; or "auto", as `receptive_fields` finds it.
        forward: a function `(model, images) -> output` that calls the model, with further inputs, on a list, or by
            another method; by default the model is called on the images.

    Raises:
        ArgumentError: the images cannot be used, or there is no such pixel.
        LayerNotFoundError: no such layer; the message names the nearest.
        UnsupportedOutputError: it cannot be determined which axis of the layer's output holds the channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.Flatten(), nn.Linear(6 * 32 * 32, 10))
    >>> images = torch.rand(2, 3, 32, 32)
    >>> sp.evidence.footprint(model, images, "0", pixel=(16, 16))
    Footprint('0', pixel (16, 16), n=2: 25 of 1024 units changed, exactly those predicted)
    >>> sp.evidence.footprint(model, images, "2", pixel=(16, 16)).share
    1.0
    """
    model = called_by(model, forward)
    check_images(images)
    name = select_one(model, layer).name
    as_int(draws, "draws", least=1)
    position = _check_pixel(pixel, images)
    field, found = field_of(model, images, name, layout)
    with EvaluationMode(model) as mode, compute_units_apart():
        before = compute_outputs(mode, images, name, allow_complex=True, layout=found)
        changed = torch.zeros(before.shape[1:], dtype=torch.bool, device=before.device)
        for values in _draw_values(images, draws, seed):
            changed_images = _replace_pixel(images, position, values)
            after = compute_outputs(mode, changed_images, name, allow_complex=True, layout=found)
            changed |= ((after != before) & ~(after.isnan() & before.isnan())).any(dim=0)
    if field.output_size:
        changed = changed.any(dim=0)
    expected = predict_changed(field, position, changed.shape)
    return Footprint(name, position, len(images), changed.cpu().numpy(), expected, seed)


def predict_changed(field: ReceptiveField, pixel: tuple[int, ...], shape: tuple[int, ...]) -> Bools:
    """Return a mask of a layer's units, (*shape), whose field holds a pixel."""
    if not field.output_size:
        boxes = [field.box(channel=channel) for channel in range(shape[0])]
        return np.array(
            [
                box is not None and all(a <= at < b for a, at, b in zip(box.start, pixel, box.stop, strict=True))
                for box in boxes
            ]
        )
    bounds, axes = field.boxes(), len(pixel)
    return np.asarray(((bounds[..., :axes] <= pixel) & (pixel < bounds[..., axes:])).all(axis=-1))


def _check_pixel(pixel: tuple[int, ...], images: torch.Tensor) -> tuple[int, ...]:
    """Return a pixel's position, or raise an error if the images have no such pixel."""
    sizes = tuple(images.shape[2:])
    position = as_ints(pixel, "pixel")
    if len(position) != len(sizes) or any(not 0 <= at < size for at, size in zip(position, sizes, strict=True)):
        raise ArgumentError(
            f"There is no pixel {short_repr(position)} in images {tuple(images.shape)}, (N, C, *spatial): pass one "
            "number for each spatial axis, counted from 0."
        )
    return position


def _draw_values(images: torch.Tensor, draws: int, seed: int) -> torch.Tensor:
    """Return random values of the pixel, (draws, N, C)."""
    low, high = images.min().double(), images.max().double()
    span = high - low if high > low else torch.ones_like(low)
    drawn = torch.rand(draws, *images.shape[:2], generator=make_generator(seed), dtype=torch.float64, device="cpu")
    return (low - span + 3 * span * drawn.to(low.device)).to(images.dtype)


def _replace_pixel(images: torch.Tensor, pixel: tuple[int, ...], values: torch.Tensor) -> torch.Tensor:
    """Return a copy of the images in which one pixel has these values."""
    changed = images.clone()
    index: tuple[slice | int, ...] = (slice(None), slice(None), *pixel)
    changed[index] = values
    return changed
