"""Labelled 32 x 32 images, in memory, from any of three sources behind one function.

    "patterns"       drawn on the spot from a seed, see `spatialprobe.examples`; needs no network and no files
    "cifar10"        CIFAR-10, fetched by torchvision unless it lies under `root` already
    "folder:PATH"    image files in torchvision's ImageFolder layout, PATH/train/<class>/* and PATH/test/<class>/*

A source that cannot be had is an error that names the other two; none is ever put in another's place.
"""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

SIZE = 32  # pixels, height and width
TRAIN_COUNT, TEST_COUNT = 8_000, 2_000  # of the drawn patterns
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's own list


class DataError(RuntimeError):
    """A source of images that is unknown, unreachable or not laid out as expected."""


@dataclass(frozen=True)
class ImageData:
    """Training and test images of one source, with their labels."""

    name: str  # the source as pictures and reports name it, e.g. "patterns (drawn, seed 0)"
    classes: tuple[str, ...]
    train_images: torch.Tensor  # uint8 (N, 3, 32, 32)
    train_labels: torch.Tensor  # int64 (N,)
    test_images: torch.Tensor  # uint8 (M, 3, 32, 32)
    test_labels: torch.Tensor  # int64 (M,)


def load(source: str = "patterns", *, root: str | Path = "data", seed: int = 0, limit: int | None = None) -> ImageData:
    """Return the images of a source: "patterns", "cifar10" or "folder:PATH", decoded once into memory.

    `root` is where CIFAR-10 lies or is put. `seed` draws the patterns and chooses what a `limit` keeps: at most that
    many training images and at most that many test images, in random order, whatever order the source has. Without
    a limit the source's own order stays, which for a folder is class by class. Raises DataError where a source
    cannot be had.

    >>> load("patterns", limit=20).train_images.shape
    torch.Size([20, 3, 32, 32])
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit} leaves no images: ask for at least one, or leave the limit out for all.")
    if source == "patterns":
        return drawn_patterns(seed, limit)
    if source == "cifar10":
        return cifar10(Path(root).expanduser(), seed, limit)
    if source.startswith("folder:"):
        return image_folder(source.removeprefix("folder:"), seed, limit)
    raise DataError(f"No image source named {source!r}. The three sources: 'patterns', 'cifar10', 'folder:PATH'.")


def drawn_patterns(seed: int, limit: int | None) -> ImageData:
    """Return patterns of `patterns.draw`, training and test images from separate random streams."""
    from spatialprobe.examples import patterns

    train_images, train_labels = patterns.draw(min(TRAIN_COUNT, limit or TRAIN_COUNT), 2 * seed, SIZE)
    test_images, test_labels = patterns.draw(min(TEST_COUNT, limit or TEST_COUNT), 2 * seed + 1, SIZE)
    return ImageData(
        name=f"patterns (drawn, seed {seed})",
        classes=patterns.CLASSES,
        train_images=torch.from_numpy(train_images),
        train_labels=torch.from_numpy(train_labels),
        test_images=torch.from_numpy(test_images),
        test_labels=torch.from_numpy(test_labels),
    )


def cifar10(root: Path, seed: int, limit: int | None) -> ImageData:
    """Return CIFAR-10 as torchvision reads it from `root`, where it is downloaded first if necessary."""
    from torchvision.datasets import CIFAR10

    try:
        train = CIFAR10(root, train=True, download=True)
        test = CIFAR10(root, train=False)
    except (OSError, RuntimeError, HTTPException, EOFError, tarfile.TarError, pickle.UnpicklingError) as error:
        raise DataError(
            f"CIFAR-10 is not in {root.absolute()} and could not be fetched into it ({error}). Connect to the "
            f"network, or put {CIFAR10.filename} into that folder, or use another source: 'patterns', which is "
            "drawn on the spot, or 'folder:PATH', which reads image files."
        ) from error
    train_kept, test_kept = kept(len(train), seed, limit), kept(len(test), seed, limit)
    return ImageData(
        name="CIFAR-10",
        classes=tuple(train.classes),
        train_images=channels_first(train.data[train_kept]),
        train_labels=torch.tensor(train.targets, dtype=torch.int64)[train_kept],
        test_images=channels_first(test.data[test_kept]),
        test_labels=torch.tensor(test.targets, dtype=torch.int64)[test_kept],
    )


def image_folder(path: str, seed: int, limit: int | None) -> ImageData:
    """Return the images under a folder in ImageFolder layout, as RGB, resized to 32 x 32 if necessary."""
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise DataError(f"No folder {path!r}. {LAYOUT}")
    classes = class_names(folder / "train")
    test_classes = class_names(folder / "test")
    if classes != test_classes:
        raise DataError(
            f"{folder / 'train'} and {folder / 'test'} name different classes: only one of them has "
            f"{', '.join(sorted(set(classes) ^ set(test_classes)))}. Give both the same class folders."
        )
    train_files, train_labels = listed(folder / "train", classes, seed, limit)
    test_files, test_labels = listed(folder / "test", classes, seed, limit)
    train_images, train_resized = decoded(train_files, "training images")
    test_images, test_resized = decoded(test_files, "test images")
    resized = f" (resized to {SIZE} x {SIZE})" if train_resized or test_resized else ""
    own_name = os.path.basename(os.path.abspath(folder))
    return ImageData(f"folder:{own_name}{resized}", classes, train_images, train_labels, test_images, test_labels)


LAYOUT = "Expected PATH/train/<class>/* and PATH/test/<class>/*, with the same two or more class folders in both."


def class_names(split: Path) -> tuple[str, ...]:
    """Return the names of the class folders of `PATH/train` or `PATH/test`, sorted."""
    if not split.is_dir():
        raise DataError(f"No folder {split}. {LAYOUT}")
    names = tuple(sorted(entry.name for entry in split.iterdir() if entry.is_dir()))
    if len(names) < 2:
        raise DataError(f"{split} holds {len(names)} class folders, and telling classes apart takes two. {LAYOUT}")
    return names


def listed(split: Path, classes: Sequence[str], seed: int, limit: int | None) -> tuple[list[Path], torch.Tensor]:
    """Return the image files of a split, up to the limit, and their labels int64 `(N,)`."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        of_class = image_files(split / name)
        if not of_class:
            raise DataError(
                f"No image in {split / name}: fill the folder or delete it. Read are {', '.join(EXTENSIONS)}."
            )
        files += of_class
        labels += [label] * len(of_class)
    chosen = kept(len(files), seed, limit)
    return [files[index] for index in chosen], torch.tensor(labels, dtype=torch.int64)[chosen]


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and the folders inside it, in the order of torchvision's ImageFolder."""
    return [
        Path(inside, name)
        for inside, _, names in sorted(os.walk(folder, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]


def kept(count: int, seed: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Return the indices of the images to keep out of `count`: all in order, or up to `limit` in random order."""
    if limit is None:
        return np.arange(count)
    return np.random.default_rng(seed).permutation(count)[:limit]


def decoded(files: Sequence[Path], what: str) -> tuple[torch.Tensor, bool]:
    """Return the images uint8 `(N, 3, 32, 32)` of files, and whether any of them was resized."""
    from tqdm import tqdm

    images = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    any_resized = False
    for index, file in enumerate(tqdm(files, desc=f"decoding {what}", unit="", leave=False, disable=None)):
        images[index], resized = decoded_file(file)
        any_resized |= resized
    return channels_first(images), any_resized


def decoded_file(file: Path) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return an image as RGB `(32, 32, 3)`, resized and center-cropped, and whether it was resized."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits per channel, mode {image.mode}")
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"Cannot read the image {file} ({error}). Replace the file or delete it.") from error
    if rgb.size == (SIZE, SIZE):
        return np.asarray(rgb), False
    # `fit` scales the short side, crops the center, and filters over all pixels that it merges.
    return np.asarray(ImageOps.fit(rgb, (SIZE, SIZE), Image.Resampling.BILINEAR)), True


def channels_first(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return images `(N, H, W, 3)` as a contiguous tensor `(N, 3, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
