"""What a command works on: the model or models, the images, and how a model is called on them."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spatialprobe.arguments import as_device
from spatialprobe.command.images import ImageSet, Labeled, blank_image, read_images
from spatialprobe.command.model import load_model
from spatialprobe.command.weights import load_weights
from spatialprobe.errors import ArgumentError
from spatialprobe.model.select import Selector
from spatialprobe.storage.files import target_of


@dataclass(frozen=True)
class NormalizedForward:
    """A call of a model on images from which a mean is subtracted, and which are divided by a standard deviation."""

    mean: tuple[float, ...]  # one for all channels, or one each
    std: tuple[float, ...]

    @staticmethod
    def of(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> NormalizedForward | None:
        """Return the normalization of images with so many channels, None where neither is passed.

        Raises:
            ArgumentError: it is one of another number of channels, or a standard deviation is not above zero.
        """
        if mean is None and std is None:
            return None
        found = NormalizedForward(tuple(mean or (0.0,)), tuple(std or (1.0,)))
        for option, values in (("--mean", found.mean), ("--std", found.std)):
            if len(values) not in (1, channels):
                raise ArgumentError(
                    f"{option} has {len(values)} numbers, and the images have {channels} channels: pass one number, or "
                    "one for each channel."
                )
        if min(found.std) <= 0:
            raise ArgumentError(f"--std must be above zero, not {min(found.std):g}.")
        return found

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (N, C, *spatial) normalized."""
        mean, std = (
            torch.tensor(values, device=images.device, dtype=images.dtype).reshape(-1, *[1] * (images.ndim - 2))
            for values in (self.mean, self.std)
        )
        return (images - mean) / std

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """Return the model's output for a batch, images or a tuple that begins with them."""
        return model(self.normalize(batch[0] if isinstance(batch, (tuple, list)) else batch))


@dataclass(frozen=True)
class Setup:
    """The models in evaluation mode, the images, and what is done to these first."""

    model: nn.Module
    other: nn.Module | None  # of `compare`
    images: ImageSet  # a blank one for a command that needs only its size
    data: Labeled | None  # what `report` sweeps
    forward: NormalizedForward | None  # None: images go to the model as they are
    layers: Selector

    @staticmethod
    def of(arguments: Namespace) -> Setup:
        """Return the setup that the arguments describe."""
        device = as_device(arguments.device)
        images, forward = blank_image(arguments.size), None
        if hasattr(arguments, "image"):
            images = read_images(arguments.image, arguments.npy, arguments.size, arguments.limit)
            forward = NormalizedForward.of(arguments.mean, arguments.std, len(images[0]))
        model = _load(arguments.model, arguments.model_args, arguments.weights, device)
        other = None
        if hasattr(arguments, "other"):
            other = _load_other(arguments, device)
        paths = getattr(arguments, "data", None)
        data = None if paths is None else Labeled(read_images(paths, None, arguments.size))
        return Setup(model, other, images, data, forward, arguments.layers or nn.Conv2d)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all ranks have, as the only one or the first of those of `torchrun`."""
        return os.environ.get("RANK", "0") == "0"

    def target(self, path: str, suffixes: Sequence[str]) -> Path:
        """Return the path of a file to write, after checks that need not wait for the work to be done.

        Raises:
            ArgumentError: its name has another suffix, or no file can be written there.
        """
        found = target_of(path)
        if found.suffix.lower() not in suffixes:
            raise ArgumentError(f"--output must end in {' or '.join(suffixes)}, and {path} does not.")
        return found

    def batch_of(self, image: torch.Tensor) -> torch.Tensor:
        """Return one image (C, *spatial) as the batch that the model takes, on its device."""
        device = next((one.device for one in self.model.parameters()), image.device)
        batch = image[None].to(device)
        return batch if self.forward is None else self.forward.normalize(batch)


def _load_other(arguments: Namespace, device: torch.device | None) -> nn.Module:
    """Return the model to compare with: OTHER, or MODEL once more with other weights or arguments.

    Raises:
        ArgumentError: neither is passed.
    """
    if arguments.other is not None:
        return _load(arguments.other, arguments.other_args, arguments.other_weights, device)
    if arguments.other_weights is None and arguments.other_args is None:
        raise ArgumentError(
            "Two models are compared: pass OTHER after MODEL, or --other-weights, a second checkpoint of MODEL."
        )
    values = arguments.model_args if arguments.other_args is None else arguments.other_args
    return _load(arguments.model, values, arguments.other_weights, device)


def _load(target: str, arguments: Any, weights: str | None, device: torch.device | None) -> nn.Module:
    """Return a model with its weights, in evaluation mode, on its device."""
    model = load_model(target, arguments)
    if weights is not None:
        load_weights(model, weights)
    return model.eval() if device is None else model.eval().to(device)
