"""The images, signals or volumes that the page shows as the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from spatialprobe.activations.records import ConvSpec
from spatialprobe.errors import ArgumentError
from spatialprobe.model.batch import check_values
from spatialprobe.render.images import Image, Stretch, extremes_of, nonfinite_words
from spatialprobe.render.scale import Values
from spatialprobe.render.sheet import best_columns
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.pixels import data_uri, is_lossless
from spatialprobe.report.stills import signal_picture
from spatialprobe.text import format_count, kind_of

MOST_SIGNALS = 8  # channels of a signal that are drawn


@dataclass(frozen=True)
class InputSize:
    """A size of images, signals or volumes."""

    height: int  # pixels; one of a signal
    width: int  # pixels, or the values of a signal
    axes: int = 2  # one of signals, three of volumes
    depth: int = 1  # slices of a volume, which lie beside each other on its picture
    columns: int = 1  # slices in each row of it

    @staticmethod
    def of(size: Sequence[int]) -> InputSize:
        """Return that of an input (L,), (H, W) or (D, H, W)."""
        if len(size) == 1:
            return InputSize(1, size[0], axes=1)
        height, width = size[-2:]
        depth = size[0] if len(size) == 3 else 1
        return InputSize(height, width, len(size), depth, best_columns(depth, height, width))


@dataclass(frozen=True)
class InputImage:
    """One image of the batch."""

    name: str  # what the reader sees in the list
    picture: str  # data URI
    answer: str  # what the model makes of it, in words; empty if not known
    size: InputSize
    shown: tuple[int, int]  # height and width of the picture
    signal: CodedMaps | None = None  # the values of a signal, which the page draws as lines


@dataclass(frozen=True)
class Inputs:
    """All images of the batch."""

    images: tuple[InputImage, ...]
    of: int  # images that were given
    stretch: Stretch  # values to brightness
    remarks: tuple[str, ...]  # how pixels are shown, where not as they are

    @property
    def axes(self) -> int:
        """The number of axes of all inputs."""
        return self.images[0].size.axes

    @property
    def sizes(self) -> tuple[InputSize, ...]:
        """The sizes of the images, each once, in the order of the images."""
        return tuple(dict.fromkeys(image.size for image in self.images))

    def with_remark(self, remark: str) -> Inputs:
        """Return the same with one more sentence."""
        return replace(self, remarks=(*self.remarks, remark))


def checked_images(images: object, model: nn.Module | None = None) -> torch.Tensor:
    """The batch (N, C, H, W), (N, C, L) or (N, C, D, H, W) that the model takes.

    Raises:
        ArgumentError: it is none.
    """
    single = isinstance(images, torch.Tensor) and images.ndim == 3 and model is not None and _takes_one(model, images)
    usable = isinstance(images, torch.Tensor) and images.ndim in (3, 4, 5) and not images.is_complex()
    if not isinstance(images, torch.Tensor) or not usable or single or 0 in images.shape:
        what = f"one of {tuple(images.shape)}" if isinstance(images, torch.Tensor) else kind_of(images)
        hint = " A single image becomes a batch with image[None]." if single else ""
        if isinstance(images, torch.Tensor) and not usable:
            hint = " Signals are (N, C, L), volumes (N, C, D, H, W)."
        raise ArgumentError(f"images must be a tensor (N, C, H, W), the batch that the model takes, not {what}.{hint}")
    check_values(images)
    return images


def check_labels(labels: Sequence[str] | None, count: int) -> None:
    """Check that there is a label for each image, where there are some.

    Raises:
        ArgumentError: there is not.
    """
    if labels is not None and len(labels) != count:
        raise ArgumentError(
            f"{format_count(count, 'image')}, but {format_count(len(labels), 'label')}: pass one for each image."
        )


def inputs_of(images: Sequence[torch.Tensor], labels: Sequence[str] | None, answers: Sequence[str]) -> Inputs:
    """The images (C, *spatial) as pictures: signals as lines, others stretched alike where values leave [0, 1]."""
    sizes = [InputSize.of(image.shape[1:]) for image in images]
    if sizes[0].axes == 1:
        return _signals(images, sizes, labels, answers)
    values = [in_color(image) for image in images]
    lows, highs = zip(*(extremes_of(image) for image in values), strict=True)
    stretch = Stretch.of(min(lows), max(highs))
    pictures = [
        stretch.pixels(lay_slices(image, size.columns) if size.axes == 3 else image)
        for image, size in zip(values, sizes, strict=True)
    ]
    shown = tuple(
        InputImage(_name(number, labels), data_uri(picture), answer, size, (picture.shape[0], picture.shape[1]))
        for number, (picture, answer, size) in enumerate(zip(pictures, answers, sizes, strict=True))
    )
    remarks = [*stretch.words(), *dict.fromkeys(word for image in values for word in nonfinite_words(image))]
    if len(images[0]) not in (1, 3):
        remarks.append(f"Of the {len(images[0])} channels of the input the mean is shown, in gray.")
    if not all(is_lossless(*picture.shape[:2]) for picture in pictures):
        remarks.append("Input images are shown as JPEG; the model saw the originals.")
    return Inputs(shown, len(shown), stretch, tuple(remarks))


def _signals(
    images: Sequence[torch.Tensor], sizes: Sequence[InputSize], labels: Sequence[str] | None, answers: Sequence[str]
) -> Inputs:
    """The signals (C, L): the page draws the lines of the first channels."""
    coded = [CodedMaps.of(_as_floats(image[:MOST_SIGNALS])) for image in images]
    pictures = [signal_picture(one) for one in coded]
    shown = tuple(
        InputImage(_name(number, labels), picture.picture, answer, size, (picture.height, picture.width), one)
        for number, (picture, answer, size, one) in enumerate(zip(pictures, answers, sizes, coded, strict=True))
    )
    remarks, channels = [], len(images[0])
    if channels > 1:
        remarks.append("Each channel of the input is drawn between its own least and greatest value of all signals.")
    if channels > MOST_SIGNALS:
        remarks.append(f"Of the {channels} channels of the input the first {MOST_SIGNALS} are drawn.")
    if any(one.nonfinite.any() for one in coded):
        remarks.append("Values of the input that are infinite or NaN are crimson.")
    low, high = np.concatenate([one.low for one in coded]), np.concatenate([one.high for one in coded])
    stretch = Stretch(*(float(end) for end in np.nan_to_num([np.fmin.reduce(low), np.fmax.reduce(high)])))
    return Inputs(shown, len(shown), stretch, tuple(remarks))


def _as_floats(values: torch.Tensor) -> Values:
    """Return values as an array of float32, or of float64 where they are."""
    found = values.detach().cpu()
    return np.asarray((found if found.dtype is torch.float64 else found.float()).numpy())


def _takes_one(model: nn.Module, image: torch.Tensor) -> bool:
    """Return whether (C, H, W) would be one image to the model, whose first convolution has two axes."""
    spec = next((found for module in model.modules() if (found := ConvSpec.of(module)) is not None), None)
    return spec is not None and len(spec.kernel_size) == 2 and image.shape[1] > 1


def lay_slices(values: Image, columns: int) -> Image:
    """Return the slices (D, H, W, C) of a volume beside each other, (rows * H, columns * W, C)."""
    depth, height, width, channels = values.shape
    rows = -(-depth // columns)
    sheet = np.full((rows * columns, height, width, channels), values.flat[0], values.dtype)
    sheet[:depth] = values
    square = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(square.reshape(rows * height, columns * width, channels))


def in_color(image: torch.Tensor) -> Image:
    """Return an image as (H, W, 3) or (H, W, 1), a volume as (D, H, W, ...); bytes become fractions of 255."""
    values = image.detach().cpu().movedim(0, -1)
    values = values.float() / 255 if values.dtype is torch.uint8 else values.float()
    if values.shape[-1] not in (1, 3):
        values = values.mean(dim=-1, keepdim=True)
    return np.asarray(values.numpy())


def _name(number: int, labels: Sequence[str] | None) -> str:
    return f"{number}" if labels is None else f"{number}: {labels[number]}"
