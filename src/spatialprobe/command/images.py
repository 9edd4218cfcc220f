"""The images that a command is given: files and folders, or an array."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from spatialprobe.errors import ArgumentError, StorageError, describe_error
from spatialprobe.storage.files import path_of, shown_path, source_of

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImageSet(Dataset[torch.Tensor]):
    """Images (C, *spatial) float32, each with the name under which pictures show it."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> torch.Tensor: ...

    def stack(self) -> torch.Tensor:
        """Return all of them as one tensor (N, C, *spatial)."""
        return torch.stack([self[index] for index in range(len(self))])


class ImageFiles(ImageSet):
    """Images in files, read when they are needed, with values in [0, 1].

    With a size, an image is cropped around its center to the size's proportions, and resized.
    """

    def __init__(self, files: Sequence[Path], size: tuple[int, ...] | None) -> None:
        self._files = files
        self._mode = "L" if size is not None and size[0] == 1 else "RGB"
        self._fits = size is not None
        self._size = self._open(files[0]).size if size is None else (size[2], size[1])  # (width, height)
        apart = len({file.parent for file in files}) > 1  # only then a folder's name says something
        self.names = [f"{file.parent.name}/{file.name}".lstrip("/") if apart else file.name for file in files]

    def __getitem__(self, index: int) -> torch.Tensor:
        file = self._files[index]
        image = self._open(file)
        if self._fits:
            image = ImageOps.fit(image, self._size, Image.Resampling.BILINEAR)
        if image.size != self._size:
            raise ArgumentError(
                f"{shown_path(file)} is of {_describe_size(image.size)} pixels and {shown_path(self._files[0])} of "
                f"{_describe_size(self._size)}: pass one size for all, such as --size 224."
            )
        pixels = np.array(image, np.float32) / 255
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())

    def _open(self, file: Path) -> Image.Image:
        """Return the image in a file, upright, in the mode that the model takes.

        Raises:
            StorageError: it is none.
        """
        source = source_of(file, "image")
        try:
            with Image.open(source) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its mode {image.mode} has more than 8 bits: save it as .npy and pass --npy")
                return ImageOps.exif_transpose(image).convert(self._mode)
        except Exception as error:  # of many types
            reason = describe_error(error)
            raise StorageError(f"{shown_path(source)} cannot be read as an image: {reason}") from error


class ArrayImages(ImageSet):
    """The images in an array (N, C, *spatial), read when they are needed; bytes become fractions of 255."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.names = [f"sample_{index}" for index in range(len(array))]

    def __getitem__(self, index: int) -> torch.Tensor:
        values = np.array(self._array[index], np.float32)
        return torch.from_numpy(values / 255 if self._array.dtype == np.uint8 else values)


class Spread(ImageSet):
    """So many of some images, evenly spread over their order."""

    def __init__(self, images: ImageSet, count: int) -> None:
        self._images = images
        self._chosen = np.linspace(0, len(images) - 1, count).round().astype(int).tolist()
        self.names = [images.names[index] for index in self._chosen]

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._images[self._chosen[index]]


class Labeled(Dataset[tuple[torch.Tensor, str]]):
    """Images as tuples with their names, which stand beside patches of them."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        return self._images[index], self._images.names[index]


def read_images(
    paths: Sequence[str] | None, array: str | None, size: Sequence[int] | None = None, limit: int | None = None
) -> ImageSet:
    """Return the images in files and folders, or in an array, at most `limit` of them.

    Raises:
        ArgumentError: a folder holds no image, or the size is not one of images.
        FileNotFoundError: there is no such file.
        StorageError: a file cannot be read.
    """
    images = _read_array(array, size) if paths is None else ImageFiles(find_files(paths), _image_size(size))
    return images if limit is None or limit >= len(images) else Spread(images, limit)


def blank_image(size: Sequence[int] | None) -> ImageSet:
    """Return one image of zeros of a size, by default 224 x 224."""
    return ArrayImages(np.broadcast_to(np.float32(0), (1, *input_shape(size or [224]))))


def find_files(paths: Sequence[str]) -> list[Path]:
    """Return the image files among paths, and in folders and all folders in these, in the order of their names.

    Raises:
        ArgumentError: a folder holds none.
        FileNotFoundError: there is no such file.
    """
    files: list[Path] = []
    for path in map(path_of, paths):
        if not path.is_dir():
            files.append(source_of(path, "image"))
            continue
        inside = sorted(one for one in path.rglob("*") if one.suffix.lower() in _SUFFIXES and one.is_file())
        if not inside:
            raise ArgumentError(f"The folder {shown_path(path)} holds no image: {', '.join(sorted(_SUFFIXES))}.")
        files += inside
    return files


def input_shape(size: Sequence[int]) -> tuple[int, ...]:
    """Return a size as the shape (C, *spatial) of an image: a side, H W, or C and all axes.

    >>> input_shape([224]), input_shape([48, 64]), input_shape([1, 28, 28])
    ((3, 224, 224), (3, 48, 64), (1, 28, 28))
    """
    if len(size) <= 2:
        return (3, size[0], size[-1])
    return tuple(size)


def _image_size(size: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the size that image files are given, (C, H, W)."""
    if size is None:
        return None
    shape = input_shape(size)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ArgumentError(
            f"--size of image files is a side, H W or C H W with 1 or 3 channels, not {' '.join(map(str, size))}: pass "
            "other inputs as --npy."
        )
    return shape


def _read_array(path: str | None, size: Sequence[int] | None) -> ArrayImages:
    """Return the images in a file of numpy, which is mapped into memory and never unpickled."""
    source = source_of(path or "", "NumPy array")
    if size is not None:
        raise ArgumentError("--size is for image files: the array of --npy is taken as it is.")
    try:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise StorageError(f"{shown_path(source)} cannot be read as an array: {describe_error(error)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif" or array.ndim < 3 or not array.size:
        given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise StorageError(f"{shown_path(source)} holds {given}, not numbers of images (N, C, H, W) or (C, H, W).")
    return ArrayImages(array[None] if array.ndim == 3 else array)


def _describe_size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
