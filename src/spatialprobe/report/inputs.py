"""The images that the page shows as the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.render.images import Image, Stretch, extremes_of, nonfinite_words
from spatialprobe.report.pixels import data_uri, is_lossless
from spatialprobe.text import format_count, kind_of


@dataclass(frozen=True)
class InputImage:
    """One image of the batch."""

    name: str  # what the reader sees in the list
    picture: str  # data URI
    answer: str  # what the model makes of it, in words; empty if not known


@dataclass(frozen=True)
class Inputs:
    """All images of the batch."""

    height: int  # pixels
    width: int
    images: tuple[InputImage, ...]
    of: int  # images that were given
    stretch: Stretch  # values to brightness
    remarks: tuple[str, ...]  # how pixels are shown, where not as they are


def checked_images(images: object, labels: Sequence[str] | None) -> torch.Tensor:
    """The batch (N, C, H, W) that the model takes.

    Raises:
        ArgumentError: it is none, or there are not as many labels.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or 0 in images.shape or images.is_complex():
        what = f"one of {tuple(images.shape)}" if isinstance(images, torch.Tensor) else kind_of(images)
        single = isinstance(images, torch.Tensor) and images.ndim == 3
        hint = " A single image becomes a batch with image[None]." if single else ""
        raise ArgumentError(f"images must be a tensor (N, C, H, W), the batch that the model takes, not {what}.{hint}")
    if images.is_meta:
        raise ArgumentError("images are on the meta device, where tensors have no values: pass real ones.")
    if labels is not None and len(labels) != len(images):
        raise ArgumentError(
            f"{format_count(len(images), 'image')}, but {format_count(len(labels), 'label')}: pass one for each image."
        )
    return images


def inputs_of(images: torch.Tensor, labels: Sequence[str] | None, answers: Sequence[str]) -> Inputs:
    """The images (N, C, H, W) as pictures: gray or in color, stretched alike where values lie outside [0, 1]."""
    values = [_in_color(image) for image in images]
    lows, highs = zip(*(extremes_of(image) for image in values), strict=True)
    stretch = Stretch.of(min(lows), max(highs))
    shown = tuple(
        InputImage(_name(number, labels), data_uri(stretch.pixels(image)), answer)
        for number, (image, answer) in enumerate(zip(values, answers, strict=True))
    )
    height, width = images.shape[2:]
    remarks = [*stretch.words(), *dict.fromkeys(word for image in values for word in nonfinite_words(image))]
    if images.shape[1] not in (1, 3):
        remarks.append(f"Of the {images.shape[1]} channels of the input the mean is shown, in gray.")
    if not is_lossless(height, width):
        remarks.append("Input images are shown as JPEG; the model saw the originals.")
    return Inputs(height, width, shown, len(shown), stretch, tuple(remarks))


def _in_color(image: torch.Tensor) -> Image:
    """(H, W, 3) or (H, W, 1); bytes become fractions of 255."""
    values = image.detach().cpu().movedim(0, -1)
    values = values.float() / 255 if values.dtype is torch.uint8 else values.float()
    if values.shape[-1] not in (1, 3):
        values = values.mean(dim=-1, keepdim=True)
    return np.asarray(values.numpy())


def _name(number: int, labels: Sequence[str] | None) -> str:
    return f"{number}" if labels is None else f"{number}: {labels[number]}"
