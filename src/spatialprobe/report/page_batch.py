"""The batch that a page shows: its samples one by one, as the model takes them, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from spatialprobe.errors import ArgumentError
from spatialprobe.model.batch import BatchReader, check_values, tensors_of
from spatialprobe.model.forward import CalledBy, Forward, as_tensor_model, called_by
from spatialprobe.model.inputs import copy_inputs, map_tensors
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.samples import ImageOf, image_in
from spatialprobe.model.weights import device_of
from spatialprobe.render.images import image_values
from spatialprobe.report.inputs import check_labels, checked_images
from spatialprobe.tensors import shape_text

_EMPTY = "The batch holds no samples, so there is nothing to show. Pass at least one image."


@dataclass(frozen=True, eq=False)
class PageBatch:
    """A batch of any form.

    Each of its samples is one image (1, C, H, W) to a model of such images, which adds the sample's other inputs.
    """

    model: nn.Module  # as the user has it
    forward: Forward | None
    batch: Any  # as the user has it
    pictures: tuple[torch.Tensor, ...]  # (C, *spatial) each, what the page shows of each sample
    _followed: int = 0  # which tensor of a sample the picture shows

    @staticmethod
    def of(
        model: nn.Module, batch: Any, forward: Forward | None, image: ImageOf | None, labels: Sequence[str] | None
    ) -> PageBatch:
        """Return the batch that a page shows.

        Raises:
            ArgumentError: it is none, its images are not clear, or there are not as many labels.
        """
        if isinstance(batch, (list, tuple)) and not batch:
            raise ArgumentError(_EMPTY)
        if isinstance(batch, torch.Tensor) or not any(tensor.ndim for tensor in tensors_of(batch)):
            images = checked_images(batch, model if forward is None else None)
            check_labels(labels, len(images))
            return PageBatch(model, forward, batch, tuple(images.unbind()))
        check_values(batch)
        reader = BatchReader.of(model, forward)
        part = reader.part(batch)
        samples = [_take(reader, part, index, alone=False) for index in range(reader.count(part))]
        if not samples:
            raise ArgumentError(_EMPTY)
        pictures = [_picture(sample, index, image, reader) for index, sample in enumerate(samples)]
        if len({picture.ndim for picture in pictures}) > 1:
            shapes = ", ".join(dict.fromkeys(shape_text(picture) for picture in pictures))
            raise ArgumentError(f"The page shows images, signals or volumes, not some of each: these are {shapes}.")
        shown = tuple(checked_images(picture[None])[0] for picture in pictures)
        check_labels(labels, len(shown))
        return PageBatch(model, forward, batch, shown, _which(_take(reader, part, 0, alone=True), pictures[0], reader))

    @property
    def is_tensor(self) -> bool:
        """Whether the model takes nothing but images."""
        return isinstance(self.batch, torch.Tensor)

    @cached_property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The sizes of the images, each once, in the order of the images."""
        return tuple(dict.fromkeys(tuple(picture.shape[1:]) for picture in self.pictures))

    @cached_property
    def size_of(self) -> tuple[int, ...]:
        """Which of the sizes each image has."""
        return tuple(self.sizes.index(tuple(picture.shape[1:])) for picture in self.pictures)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pictures)

    def __iter__(self) -> Iterator[tuple[nn.Module, torch.Tensor]]:
        """Yield for each sample a model of one image, and this, (1, C, H, W), on the model's device."""
        return (self.one(index) for index in range(len(self)))

    def first(self) -> PageBatch:
        """Return the same of the first sample alone."""
        if self.is_tensor:
            return replace(self, batch=self.batch[:1], pictures=self.pictures[:1])
        return replace(self, pictures=self.pictures[:1])

    def one(self, index: int) -> tuple[nn.Module, torch.Tensor]:
        """Return a model of one image, and the image of a sample, (1, C, H, W), on the model's device."""
        model, part = called_by(self.model, self.forward), self.alone(index)
        if self.is_tensor:
            return model, part
        if BatchReader.of(self.model, self.forward).is_image_list(part):
            return CalledBy(model, _call_on_list), part[0][None]
        followed = list(tensors_of(part))[self._followed]
        return as_tensor_model(model, part, followed), followed

    def alone(self, index: int) -> Any:
        """Return one sample as a batch of the form that the model takes, on its device."""
        device = device_of(self.model)
        if self.is_tensor:
            return self.pictures[index][None].to(device)
        reader = BatchReader.of(self.model, self.forward)
        return copy_inputs(_take(reader, reader.part(self.batch), index, alone=True), device)


def _call_on_list(model: nn.Module, images: torch.Tensor) -> Any:
    return model(list(images.unbind()))


def _take(reader: BatchReader, part: Any, index: int, *, alone: bool) -> Any:
    """Return one sample of what the model takes of a batch, by itself or as a batch of one."""
    count = reader.count(part)

    def take(one: Any) -> Any:
        if isinstance(one, list):
            return [one[index]] if alone else one[index]
        if not one.ndim or len(one) != count:
            return one
        return one[index : index + 1] if alone else one[index]

    return map_tensors(part, take, whole=reader.is_image_list)


def _picture(sample: Any, index: int, image: ImageOf | None, reader: BatchReader) -> torch.Tensor:
    """Return what the page shows of a sample, (C, H, W).

    Raises:
        ArgumentError: it is not clear, or no image.
    """
    found = image_in(sample, image)
    if not isinstance(found, torch.Tensor) and image is not None:
        found = torch.from_numpy(image_values(found, None, f"What image= returned of sample {index}")).movedim(-1, 0)
    if not isinstance(found, torch.Tensor) or found.ndim not in (2, 3, 4):
        what = shape_text(found) if isinstance(found, torch.Tensor) else describe_leaves(found)
        raise ArgumentError(
            f"Sample {index} of the images has no image (C, H, W) but {what}. Pass a function that returns it, such as "
            "image=lambda sample: sample['image']."
        )
    return found.detach().cpu()


def _which(part: Any, picture: torch.Tensor, reader: BatchReader) -> int:
    """Return which tensor of a batch of one the picture shows: the one that equals it, or else is as large.

    Raises:
        ArgumentError: none is, so that it is not known what of the picture a unit sees.
    """
    if reader.is_image_list(part):
        return 0
    tensors = list(tensors_of(part))
    alike = [
        number
        for number, one in enumerate(tensors)
        if one.ndim == picture.ndim + 1 and one.shape[2:] == picture.shape[1:]
    ]
    equal = [number for number in alike if torch.equal(tensors[number][0].detach().cpu(), picture)]
    if not alike:
        size = " x ".join(map(str, picture.shape[1:]))
        raise ArgumentError(
            f"The picture of a sample is of {size} pixels, and no input of the model is a batch (N, C, H, "
            f"W) of that size: it takes {describe_leaves(part)}."
        )
    return (equal or alike)[0]
