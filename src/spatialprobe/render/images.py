"""Input images as pixels, as they are or stretched, and which of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import as_float, short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import NONFINITE, palette
from spatialprobe.tensors import dense_values
from spatialprobe.text import format_count

Image = npt.NDArray[np.float32]  # (H, W, 3), or (H, W, 1)

_ROUNDING = 0.01  # that mean and std written with three digits leave behind at black and white


@dataclass(frozen=True)
class Normalization:
    """The mean and the standard deviation by which an image was normalized before the model saw it."""

    mean: tuple[float, ...]  # one for all channels, or one each
    std: tuple[float, ...]

    @staticmethod
    def of(mean: object, std: object) -> Normalization | None:
        """Return the normalization of `mean=` and `std=`, None where neither is passed.

        Raises:
            ArgumentError: one of them is neither a number nor a sequence of one or three, or a `std` is not above zero.
        """
        if mean is None and std is None:
            return None
        means, stds = (
            _channel_numbers(0.0 if mean is None else mean, "mean"),
            _channel_numbers(1.0 if std is None else std, "std"),
        )
        if min(stds) <= 0:
            raise ArgumentError(f"std must be above zero, not {min(stds):g}.")
        return Normalization(means, stds)

    def undone(self, values: Image, what: str) -> Image:
        """Return the image (H, W, C) as it was before; what rounding puts beyond 0 and 1 is put back.

        Raises:
            ArgumentError: it has another number of channels.
        """
        if any(len(part) not in (1, values.shape[-1]) for part in (self.mean, self.std)):
            raise ArgumentError(
                f"{what} has {format_count(values.shape[-1], 'channel')}, mean= and std= are for {len(self.mean)} and "
                f"{len(self.std)}: pass one number, or one for each channel."
            )
        found = values * np.array(self.std, np.float32) + np.array(self.mean, np.float32)
        near = (found > -_ROUNDING) & (found < 1 + _ROUNDING)
        return np.asarray(np.where(near, np.clip(found, 0, 1), found))


def _channel_numbers(value: object, name: str) -> tuple[float, ...]:
    """One number, or one for each channel, as a tuple."""
    if isinstance(value, torch.Tensor):
        value = dense_values(None, value.detach())
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.reshape(-1).tolist()
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(numbers) not in (1, 3):
        raise ArgumentError(f"{name} must be a number, or one for each of three channels, not {short_repr(value)}.")
    return tuple(as_float(one, name) for one in numbers)


def image_values(
    image: object,
    size: Sequence[int] | None,
    what: str,
    normalization: Normalization | None = None,
    *,
    averages: bool = False,
) -> Image:
    """An image of this size, the channels last; bytes become fractions of 255.

    Args:
        image: (3, H, W) or (1, H, W), a batch of one of these, (H, W, 3), (H, W, 1) or (H, W); a tensor, an array or a
            PIL image.
        size: (H, W); None for any.
        what: its name in messages: "The image", "Sample 3 of the data set".
        normalization: to be undone, of an image that is not of bytes.
        averages: whether an image (C, H, W) of other than one or three channels becomes their mean.

    Raises:
        ArgumentError: it is no such image, or of another size.
    """
    tensor = _as_tensor(image, what)
    if tensor.ndim == 4 and len(tensor) == 1:  # a batch of one, as the model took it
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3 and tensor.shape[2] in (1, 3) and not _is_first(tensor, size):
        tensor = tensor.movedim(2, 0)
    if tensor.ndim != 3 or not (tensor.shape[0] in (1, 3) or (averages and tensor.shape[0])):
        raise ArgumentError(f"{what} has the shape {tuple(tensor.shape)}: bring one image, (3, H, W) or (1, H, W).")
    if size is not None and tuple(tensor.shape[1:]) != tuple(size):
        raise ArgumentError(
            f"{what} is of {tensor.shape[1]} x {tensor.shape[2]} pixels, but the field is one of inputs of "
            f"{size[0]} x {size[1]}: bring the image as the model saw it."
        )
    return channels_as_pixels(tensor, what, normalization)


def channels_as_pixels(tensor: torch.Tensor, what: str, normalization: Normalization | None) -> Image:
    """Return an image or volume (C, ...) with the channels last; of other than one or three channels their mean.

    Raises:
        ArgumentError: there is a normalization to be undone, and it is of bytes or for another number of channels.
    """
    values = tensor.detach().cpu().movedim(0, -1)
    if normalization is not None and values.dtype is torch.uint8:
        raise ArgumentError(f"{what} is of bytes, which are not normalized: leave mean= and std= out.")
    found = (values.float() / 255 if values.dtype is torch.uint8 else values.float()).numpy()
    if normalization is not None:
        found = normalization.undone(found, what)
    return found if found.shape[-1] in (1, 3) else found.mean(axis=-1, keepdims=True)


def as_channels(given: object, axes: int, what: str, wanted: str) -> torch.Tensor:
    """Return a tensor or array (C, ...) with so many axes behind the channels as a tensor.

    Args:
        given: what the user passed.
        axes: one of a signal, three of a volume.
        what: its name in messages.
        wanted: what it has to be, "one signal, (C, L)".

    Raises:
        ArgumentError: it is something else, or complex.
    """
    found = torch.from_numpy(given) if isinstance(given, np.ndarray) else given
    if not isinstance(found, torch.Tensor) or found.ndim != axes + 1 or found.is_complex():
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(given).__name__
        raise ArgumentError(f"{what} is {shape}: bring {wanted}.")
    return found


def _is_first(tensor: torch.Tensor, size: Sequence[int] | None) -> bool:
    """Return whether the first axis of an image counts its channels: the size tells, or that it can."""
    first = tensor.shape[0] in (1, 3)
    return first and (size is None or tuple(tensor.shape[1:]) == tuple(size) or tuple(tensor.shape[:2]) != tuple(size))


def _as_tensor(image: Any, what: str) -> torch.Tensor:
    """An image of any kind as a tensor.

    Raises:
        ArgumentError: it is none.
    """
    if hasattr(image, "convert") and hasattr(image, "getbands"):  # of PIL, which need not be imported to know that
        image = np.array(image.convert("L" if len(image.getbands()) == 1 and image.mode != "P" else "RGB"))
    tensor = torch.from_numpy(np.ascontiguousarray(image)) if _is_numbers(image) else image
    if not isinstance(tensor, torch.Tensor) or tensor.dtype.is_complex:
        raise ArgumentError(
            f"{what} is {_kind(image)}: bring it as a tensor (3, H, W) or (1, H, W), in [0, 1] or uint8, an array or a "
            "PIL image."
        )
    return dense_values(None, tensor.detach())


def _is_numbers(image: object) -> bool:
    return isinstance(image, np.ndarray) and image.dtype.kind in "buif"


def _kind(image: object) -> str:
    return "a complex tensor" if isinstance(image, torch.Tensor) else f"of type {type(image).__name__}"


@dataclass(frozen=True)
class Stretch:
    """The mapping from image values to brightness: 0 to 1 as they are, any other range stretched from low to high."""

    low: float = 0.0
    high: float = 1.0

    @staticmethod
    def of(low: float, high: float) -> Stretch:
        """For images with these extremes."""
        if low >= 0 and high <= 1:
            return Stretch()
        return Stretch(low, high if high > low else low + 1)

    def words(self) -> list[str]:
        """Return the sentence for the contrast stretch, in a list; an empty list where values are shown as they are."""
        if (self.low, self.high) == (0, 1):
            return []
        return [f"Image values from {self.low:.4g} to {self.high:.4g} are stretched from black to white."]

    def pixels(self, values: Image) -> npt.NDArray[np.uint8]:
        """(..., 3) uint8 from (..., 3) or (..., 1); what is not finite is crimson."""
        finite = np.isfinite(values).all(axis=-1)
        scaled = (np.where(np.isfinite(values), values, 0) - self.low) / (self.high - self.low)
        gray = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
        pixels = np.array(np.broadcast_to(gray, (*values.shape[:-1], 3)))
        pixels[~finite] = palette(False)[NONFINITE]
        return pixels


def nonfinite_words(values: Image) -> list[str]:
    """Say that some values are not finite, in a list; an empty list where all are."""
    return [] if np.isfinite(values).all() else ["Pixels with values that are not finite are crimson."]


def extremes_of(values: Image) -> tuple[float, float]:
    """The least and the greatest finite value, 0 and 1 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
