"""Data sets that are indexed by sample number, and the entry of a sample that is passed to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch

from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.model.batch import LABELS, as_mapping
from spatialprobe.model.outputs import describe_leaves


class Images(Protocol):
    """A collection of images that are indexed by number: tensors (C, *spatial), or tuples that begin with one."""

    def __getitem__(self, index: int, /) -> object: ...


ImageOf: TypeAlias = Callable[[Any], Any]  # from a sample to its image (C, H, W)


class CountedImages(Images, Protocol):
    """A collection of images with a known length."""

    def __len__(self) -> int: ...


def image_in(sample: Any, image: ImageOf | None = None) -> Any:
    """Return the image of a sample, for a picture: what a function returns of it, or by default the sample itself.

    Of a tuple or list it is the first entry; of a mapping or dataclass the one tensor with an image's axes, (C, H, W)
    or (C, D, H, W), that is no label.

    Raises:
        ArgumentError: a mapping holds several such tensors, or none; or the function raised.

    >>> image = torch.zeros(3, 8, 8)
    >>> image_in((image, 3)) is image, image_in({"image": image, "label": torch.zeros(1, 8, 8)}) is image
    (True, True)
    """
    if image is not None:
        try:
            return image(sample)
        except Exception as error:
            raise ArgumentError(f"image= raised {describe_error(error)} on {describe_leaves(sample)}.") from error
    first = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
    entries = as_mapping(first)
    if entries is None:
        return first
    tensors = {key: value for key, value in entries.items() if isinstance(value, torch.Tensor) and key not in LABELS}
    images = [value for value in tensors.values() if value.ndim in (3, 4)]
    if len(images) != 1:
        key = next(iter(tensors), "image")
        raise ArgumentError(
            f"A sample is {describe_leaves(sample)}, with {len(images) or 'no'} tensors (C, H, W) that could be its "
            f"image. Pass a function that returns it, such as image=lambda sample: sample[{key!r}]."
        )
    return images[0]
