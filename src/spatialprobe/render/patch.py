"""The pixels of an image that a box holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spatialprobe.fields.box import Box


def cut_patch(image: npt.NDArray[Any], box: Box, *, every: int = 1) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the pixels of a box, and which of them lie in the image rather than in the padding.

    Args:
        image: (*axes) or (*axes, channels).
        box: of as many axes; it may leave the image.
        every: take only every n-th pixel along each axis.

    Returns:
        The patch (*box, channels), zero outside the image, and a mask (*box).

    >>> from spatialprobe.fields.box import Box
    >>> patch, inside = cut_patch(np.arange(12).reshape(3, 4), Box(-1, 1, 2, 3))
    >>> patch.tolist(), inside.all(axis=1).tolist()
    ([[0, 0], [1, 2], [5, 6]], [False, True, True])
    """
    sizes = image.shape[: len(box.start)]
    places = [np.arange(start, stop, every) for start, stop in zip(box.start, box.stop, strict=True)]
    known = [(place >= 0) & (place < size) for place, size in zip(places, sizes, strict=True)]
    patch = np.zeros((*map(len, places), *image.shape[len(sizes) :]), image.dtype)
    inside = np.logical_and.reduce(np.meshgrid(*known, indexing="ij"))
    if inside.any():
        corner = tuple(slice(int(one.argmax()), int(one.argmax() + one.sum())) for one in known)
        patch[corner] = image[np.ix_(*(place[one] for place, one in zip(places, known, strict=True)))]
    return patch, inside
