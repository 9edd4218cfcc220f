"""Volumes as pixels, and the slice of one that shows what a unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.errors import ArgumentError
from spatialprobe.render.images import Normalization

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box

Volume = npt.NDArray[np.float32]  # (D, H, W, 3), or (D, H, W, 1)


def volume_values(
    volume: object, size: Sequence[int] | None, what: str, normalization: Normalization | None = None
) -> Volume:
    """Return a volume of this size, the channels last; of other than one or three channels their mean.

    Args:
        volume: (C, D, H, W), a tensor or an array; bytes become fractions of 255.
        size: (D, H, W); None for any.
        what: its name in messages, as of an image.
        normalization: to be undone.

    Raises:
        ArgumentError: it is no such volume, or of another size.
    """
    found = torch.from_numpy(volume) if isinstance(volume, np.ndarray) else volume
    if not isinstance(found, torch.Tensor) or found.ndim != 4 or found.is_complex():
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(volume).__name__
        raise ArgumentError(f"{what} is {shape}: bring one volume, (C, D, H, W).")
    if size is not None and tuple(found.shape[1:]) != tuple(size):
        raise ArgumentError(
            f"{what} is of {' x '.join(map(str, found.shape[1:]))} voxels, but the field is one of inputs of "
            f"{' x '.join(map(str, size))}: bring the volume as the model saw it."
        )
    values = found.detach().cpu().movedim(0, -1)
    values = values.float() / 255 if values.dtype is torch.uint8 else values.float()
    array = values.numpy() if normalization is None else normalization.undone(values.numpy(), what)
    return np.asarray(array if array.shape[-1] in (1, 3) else array.mean(axis=-1, keepdims=True))


def middle_slice(box: Box, depth: int) -> int:
    """Return the slice through the middle of what of a box lies in a volume of so many slices.

    >>> from spatialprobe.fields.box import Box
    >>> middle_slice(Box(-2, 0, 0, 4, 3, 3), 8), middle_slice(Box(5, 0, 0, 8, 3, 3), 8)
    (1, 6)
    """
    first, last = max(box.start[0], 0), min(box.stop[0], depth)
    return (first + last - 1) // 2


def planar(box: Box) -> Box:
    """Return the rows and columns of a box in a volume."""
    return type(box)(*box.start[1:], *box.stop[1:])
