"""A check of a store of activations against its checksums."""

from __future__ import annotations

import os
from typing import Any

from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.statistics.store_seal import ARRAYS, check_group, check_root
from spatialprobe.storage.files import folder_of, shown_path


def check_store(path: str | os.PathLike[str]) -> None:
    """Read a store that a sweep has written, and check all of its chunks and metadata against their checksums.

    zarr verifies the checksums of the chunks that it reads. But it reads a missing chunk as values that were never
    written, and it does not verify the metadata of arrays. This function detects all of these.

    Raises:
        ArgumentError: zarr is not installed, or there is no such folder.
        StorageError: a chunk, an array or a layer is damaged or missing, or the sweep did not finish; the message says
            which.

    >>> import torch, spatialprobe as sp
    >>> from spatialprobe.testing import check_store
    >>> check_store("no/acts.zarr")
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: ...
    """
    try:
        import zarr
    except ImportError as error:
        raise ArgumentError("check_store needs zarr 3: pip install 'spatialprobe[store]'.") from error
    root = folder_of(path, "check the store")
    attributes = check_root(root)
    for name in attributes["groups"]:
        check_group(root, name, 0, attributes["rows"])
    opened = zarr.open_group(root, mode="r", zarr_format=3)
    for name in attributes["groups"]:
        for array in ARRAYS:
            _read(opened[f"{name}/{array}"], f"{name}/{array}", attributes["rows"], shown_path(root))


def _read(array: Any, name: str, rows: int, root: str) -> None:
    """Read an array chunk by chunk.

    Raises:
        StorageError: a chunk cannot be read, or the number of samples is wrong.
    """
    if array.shape[0] != rows:
        raise StorageError(f"the store {root} has {array.shape[0]} samples of {name!r}, not {rows}.")
    for start in range(0, rows, array.chunks[0]):
        stop = min(rows, start + array.chunks[0])
        try:
            array[start:stop]
        except Exception as error:  # zarr and its codecs raise exceptions of any type
            raise StorageError(
                f"the store {root} is damaged: samples {start} to {stop - 1} of {name!r} cannot be read ({error})."
            ) from error
