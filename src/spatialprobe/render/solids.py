"""Volumes as pixels, and the slice of one that shows what a unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spatialprobe.errors import ArgumentError
from spatialprobe.render.images import Normalization, as_channels, channels_as_pixels

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
        normalization: to be undone, of a volume that is not of bytes.

    Raises:
        ArgumentError: it is no such volume, or of another size.
    """
    found = as_channels(volume, 3, what, "one volume, (C, D, H, W)")
    if size is not None and tuple(found.shape[1:]) != tuple(size):
        raise ArgumentError(
            f"{what} is of {' x '.join(map(str, found.shape[1:]))} voxels, but the field is one of inputs of "
            f"{' x '.join(map(str, size))}: bring the volume as the model saw it."
        )
    return channels_as_pixels(found, what, normalization)


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
