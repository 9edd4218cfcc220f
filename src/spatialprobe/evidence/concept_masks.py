"""The masks of a data set: which pixels of each image belong to which concept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.arguments import as_texts, short_repr
from spatialprobe.errors import ArgumentError, describe_error
from spatialprobe.evidence.result import Bools, Ints
from spatialprobe.model.samples import CountedImages, ImageOf, image_in
from spatialprobe.text import format_count, kind_of

MasksOf = Callable[[Any], Any]  # from a sample to its masks

_SHUFFLES = 8  # readings of the masks of other images
_FORM = "a tensor of concept numbers, 0 for none, or a mapping of concepts to boolean masks"


@dataclass(frozen=True, eq=False)
class ConceptMasks:
    """The masks of all images, a bit for each pixel."""

    names: tuple[str, ...]  # K concepts
    size: tuple[int, ...]  # pixels along each axis of the images
    packed: npt.NDArray[np.uint8]  # (N, K, bytes)

    def __len__(self) -> int:
        return len(self.packed)

    def at(self, samples: Ints, pixels: Ints) -> Bools:
        """Return the masks of samples at pixels, numbered in row-major order: (samples, K, pixels)."""
        found = self.packed[samples][..., pixels // 8] >> (7 - pixels % 8).astype(np.uint8)
        return (found & 1).astype(np.bool_)


@dataclass(frozen=True, eq=False)
class ShuffledMasks:
    """The masks of each image, and those of others: every image gives its masks to one other in each reading."""

    masks: ConceptMasks
    seed: int

    def at(self, pixels: Ints, samples: torch.Tensor) -> torch.Tensor:
        """Return the masks at pixels, bool (readings, samples, K, pixels), of which the first are the images' own."""
        count = len(self.masks)
        order = np.random.default_rng(self.seed).permutation(count)
        place = np.argsort(order)[samples.numpy()]
        steps = range(min(_SHUFFLES, count - 1) + 1)
        return torch.from_numpy(np.stack([self.masks.at(order[(place + step) % count], pixels) for step in steps]))


def read_masks(
    data: CountedImages, concepts: Sequence[str] | None, image: ImageOf | None, masks: MasksOf | None
) -> ConceptMasks:
    """Return the masks of a data set, whose samples are each read once.

    Raises:
        ArgumentError: a sample has no masks of the image's size; or a concept has no pixel in all the data.
    """
    names = None if concepts is None else tuple(map(str, as_texts(concepts, "concepts")))
    if names is not None and (not names or len(set(names)) < len(names)):
        raise ArgumentError(f"concepts must be different names, at least one, not {short_repr(concepts)}.")
    rows: list[dict[str, npt.NDArray[np.uint8]]] = []
    size: tuple[int, ...] | None = None
    for index in range(len(data)):
        try:
            sample = data[index]
        except Exception as error:
            raise ArgumentError(f"data raised {describe_error(error)} for sample {index}.") from error
        pixels = _size_of(image_in(sample, image), index)
        size = size or pixels
        if pixels != size:
            raise ArgumentError(
                f"Sample {index} is an image of {_by(pixels)} pixels, sample 0 one of {_by(size)}: units are matched "
                "to pixels for images of one size. Resize the images and their masks."
            )
        rows.append(_pack(_masks_in(sample, masks, index), names, size, index))
    found = {name for row in rows for name in row}
    known = names if names is not None else tuple(sorted(found, key=_order))
    missing = [name for name in known if name not in found]
    if missing or not known or size is None:
        lacking = f"concept{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}" if missing else "any concept"
        raise ArgumentError(f"No image of the data has a pixel of {lacking}: leave it out, or pass more images.")
    empty = np.zeros(-(-int(np.prod(size)) // 8), np.uint8)
    packed = np.stack([np.stack([row.get(name, empty) for name in known]) for row in rows])
    return ConceptMasks(known, size, packed)


def _size_of(image: object, index: int) -> tuple[int, ...]:
    """Return the pixels of an image along each axis."""
    if not isinstance(image, torch.Tensor) or image.ndim < 2:
        found = f"a tensor {tuple(image.shape)}" if isinstance(image, torch.Tensor) else kind_of(image)
        raise ArgumentError(
            f"The image of sample {index} is {found}. Pass tensors (C, *spatial), or a function that returns them, "
            "such as image=lambda sample: sample['image']."
        )
    return tuple(image.shape[1:])


def _masks_in(sample: Any, masks: MasksOf | None, index: int) -> Any:
    """Return the masks of a sample, of a tuple the second entry."""
    if masks is not None:
        try:
            return masks(sample)
        except Exception as error:
            raise ArgumentError(f"masks= raised {describe_error(error)} on sample {index}.") from error
    if not isinstance(sample, (tuple, list)) or len(sample) < 2:
        raise ArgumentError(
            f"Sample {index} is {kind_of(sample)}, and its masks are not known. Pass data of pairs (image, masks), or "
            "a function that returns the masks, such as masks=lambda sample: sample['masks']."
        )
    return sample[1]


def _pack(
    masks: Any, names: tuple[str, ...] | None, size: tuple[int, ...], index: int
) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the concepts that one image has, and their masks as bits."""
    if isinstance(masks, Mapping):
        unknown = [name for name in masks if not isinstance(name, str) or (names is not None and name not in names)]
        if unknown and names is None:
            raise ArgumentError(f"The masks of sample {index} name a concept {short_repr(unknown[0])}: use strings.")
        chosen = {name: _array(mask, size, index) != 0 for name, mask in masks.items() if name not in unknown}
    else:
        numbers = _array(masks, size, index)
        present = np.unique(numbers[numbers != 0]).tolist()
        most = len(names) if names is not None else np.iinfo(np.int64).max
        if present and not 0 < present[0] <= present[-1] <= most:
            limit = f"1 to {most}, as many as concepts names" if names is not None else "1 and more"
            raise ArgumentError(
                f"The mask of sample {index} holds concept numbers {present[0]} to {present[-1]}: they must be "
                f"{limit}, and 0 for none."
            )
        chosen = {names[number - 1] if names is not None else str(number): numbers == number for number in present}
    return {name: np.packbits(mask.ravel()) for name, mask in chosen.items() if mask.any()}


def _array(mask: Any, size: tuple[int, ...], index: int) -> npt.NDArray[Any]:
    """Return a mask as an array of integers or booleans of the image's size."""
    found = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if found.dtype.kind not in "bui":
        raise ArgumentError(f"The mask of sample {index} is of {found.dtype}: pass {_FORM}.")
    if found.shape != size:
        raise ArgumentError(
            f"The mask of sample {index} is {found.shape}, and its image has {_by(size)} pixels: pass a mask of the "
            "same size."
        )
    return found


def _order(name: str) -> tuple[int, str]:
    """Numbers in their order, then names."""
    return (int(name) if name.isdecimal() else 0, name)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def check_enough(masks: ConceptMasks) -> None:
    """Check that there are other images to take the masks of.

    Raises:
        ArgumentError: there is one image.
    """
    if len(masks) < 2:
        raise ArgumentError(
            f"data holds {format_count(len(masks), 'image')}: the control takes masks of other images, so "
            "pass at least two."
        )
