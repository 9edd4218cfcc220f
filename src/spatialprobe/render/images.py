"""Input images as pixels, as they are or stretched, and which of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.render.palette import NONFINITE, palette

Image = npt.NDArray[np.float32]  # (H, W, 3), or (H, W, 1)


def image_values(image: object, size: Sequence[int], what: str) -> Image:
    """An image (3, H, W) or (1, H, W) of this size, the channels last; bytes become fractions of 255.

    `what` names it in messages: "The image", "Sample 3 of the data set".

    Raises:
        ArgumentError: it is no such tensor, or of another size.
    """
    tensor = torch.from_numpy(image) if isinstance(image, np.ndarray) and image.dtype.kind in "buif" else image
    if not isinstance(tensor, torch.Tensor) or tensor.dtype.is_complex:
        raise ArgumentError(
            f"{what} is {_kind(image)}: bring it as a tensor (3, H, W) or (1, H, W), in [0, 1] or uint8."
        )
    if tensor.ndim == 4 and len(tensor) == 1:  # a batch of one, as the model took it
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ArgumentError(f"{what} has the shape {tuple(tensor.shape)}: bring one image, (3, H, W) or (1, H, W).")
    if tuple(tensor.shape[1:]) != tuple(size):
        raise ArgumentError(
            f"{what} is of {tensor.shape[1]} x {tensor.shape[2]} pixels, but the field is one of inputs of "
            f"{size[0]} x {size[1]}: bring the image as the model saw it."
        )
    values = tensor.detach().cpu().movedim(0, -1)
    return (values.float() / 255 if values.dtype is torch.uint8 else values.float()).numpy()


def _kind(image: object) -> str:
    return "a complex tensor" if isinstance(image, torch.Tensor) else f"of type {type(image).__name__}"


@dataclass(frozen=True)
class Stretch:
    """How image values become brightness: 0 to 1 as they are, any other range drawn out from `low` to `high`."""

    low: float = 0.0
    high: float = 1.0

    @staticmethod
    def of(low: float, high: float) -> Stretch:
        """For images with these extremes."""
        if low >= 0 and high <= 1:
            return Stretch()
        return Stretch(low, high if high > low else low + 1)

    def words(self) -> list[str]:
        """What was done, in a list; an empty list where the values are shown as they are."""
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
    """That some values are not finite, in a list; an empty list where all are."""
    return [] if np.isfinite(values).all() else ["Pixels with values that are not finite are crimson."]


def extremes_of(values: Image) -> tuple[float, float]:
    """The least and the greatest finite value, 0 and 1 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
