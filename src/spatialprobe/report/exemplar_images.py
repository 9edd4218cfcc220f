"""The images of the exemplars: read from the data set once, and stored on the page as far as there is room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spatialprobe.fields.result import ReceptiveField
from spatialprobe.model.samples import ImageOf, Images
from spatialprobe.render.exemplar_patches import image_of
from spatialprobe.render.images import Image, Stretch
from spatialprobe.report.pixels import Pixels, data_uri, shrink

_LARGEST = 128  # pixels: the longest side of an image that is stored
_CACHED = 2**28  # bytes of images that are held while a page is written


@dataclass(frozen=True, eq=False)
class ExemplarImages:
    """A data set as the page draws from it."""

    dataset: Images
    of: ReceptiveField  # of any layer: it knows the size of the images
    stretch: Stretch
    classes: Sequence[str] | None
    image: ImageOf | None = None  # from a sample to its image
    _read: dict[int, tuple[Pixels, str]] = field(default_factory=dict)
    _stored: dict[int, str] = field(default_factory=dict)  # each image is encoded once

    @property
    def axes(self) -> int:
        """The axes of the inputs: one of signals, three of volumes."""
        return len(self.of.input_size)

    def signal(self, sample: int) -> Image:
        """Return the values of a sample that is a signal, (L, C).

        Raises:
            ArgumentError: the sample is no signal of the length that the model took.
        """
        return image_of(self.dataset, sample, self.of, image=self.image)

    def pixels(self, sample: int) -> Pixels:
        """Return a sample's image (H, W, 3), or volume (D, H, W, 3).

        Raises:
            ArgumentError: the sample is no image of the size that the model took.
        """
        return self._sample(sample)[0]

    def label(self, sample: int) -> str:
        """Return what the data set calls the sample, empty where it does not say."""
        return self._sample(sample)[1]

    def stored(self, sample: int) -> str:
        """Return the whole image as a data URI, large ones at a smaller size."""
        if sample not in self._stored:
            self._stored[sample] = self._encoded(sample)
        return self._stored[sample]

    def _encoded(self, sample: int) -> str:
        return data_uri(shrink(self.pixels(sample), _LARGEST), lossless=False)

    def _sample(self, sample: int) -> tuple[Pixels, str]:
        if sample not in self._read:
            pixels = self.stretch.pixels(image_of(self.dataset, sample, self.of, image=self.image))
            if (len(self._read) + 1) * pixels.nbytes > _CACHED:
                self._read.clear()
            self._read[sample] = pixels, _label(self.dataset[sample], self.classes)
        return self._read[sample]


@dataclass(frozen=True)
class StoredImages:
    """Whole images of exemplars: number of the sample -> data URI and label."""

    pictures: dict[int, tuple[str, str]]
    of: int  # samples that the exemplars name

    @property
    def nbytes(self) -> int:
        """About the length of all of it in the page."""
        return sum(len(picture) + 6 * len(label) + 24 for picture, label in self.pictures.values())

    def left_out(self) -> list[str]:
        """Return the sentences that say which images are not kept."""
        kept = len(self.pictures)
        if kept == self.of:
            return []
        return [f"{kept:,} of {self.of:,} images of the exemplars kept, those of the highest ranks."]


def by_rank(places: Iterable[npt.NDArray[np.int64]]) -> Iterator[int]:
    """Yield each sample that the places (C, k, 3) of some layers name once, those of the first ranks first."""
    arrays = list(places)
    seen: set[int] = set()
    for rank in range(max((array.shape[1] for array in arrays), default=0)):
        for array in arrays:
            if rank < array.shape[1]:
                for sample in array[:, rank, 0].tolist():
                    if sample >= 0 and sample not in seen:
                        seen.add(sample)
                        yield sample


def stored_images(samples: Sequence[int], images: ExemplarImages, room: float) -> StoredImages:
    """Return the first of the samples' images that fit into so many bytes."""
    kept = StoredImages({}, len(samples))
    taken = 0
    for sample in samples:
        entry = images.stored(sample), images.label(sample)
        taken += replace(kept, pictures={sample: entry}).nbytes
        if taken > room:
            break
        kept.pictures[sample] = entry
    return kept


def _label(sample: Any, classes: Sequence[str] | None) -> str:
    """Return the label beside the image in a sample: a text, or a class by its name or number."""
    if not isinstance(sample, (tuple, list)) or len(sample) < 2:
        return ""
    label = sample[1]
    if isinstance(label, str):
        return label
    if getattr(label, "ndim", None) == 0 and hasattr(label, "item"):
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
        return ""
    number = int(label)
    return classes[number] if classes is not None and 0 <= number < len(classes) else f"class {number}"
