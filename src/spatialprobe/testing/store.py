"""A store of activations held against its checksums."""

from __future__ import annotations

import os
from typing import Any

from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.statistics.store_seal import ARRAYS, check_group, check_root
from spatialprobe.storage.files import folder_of, shown_path


def check_store(path: str | os.PathLike[str]) -> None:
    """Read a store that a sweep has written, and hold every chunk and every description in it against its checksum.

    Reading with zarr checks the chunks that are read. A chunk that is lost, though, zarr reads as values that were
    never written, and it believes whatever describes an array. This finds all of it.

    Raises:
        ArgumentError: zarr is not installed, or there is no such folder.
        StorageError: a chunk, an array or a layer is damaged or gone, or the sweep did not end; the message says which.

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
    """Read an array chunk by chunk."""
    if array.shape[0] != rows:
        raise StorageError(f"the store {root} has {array.shape[0]} samples of {name!r}, not {rows}.")
    for start in range(0, rows, array.chunks[0]):
        stop = min(rows, start + array.chunks[0])
        try:
            array[start:stop]
        except Exception as error:  # whatever zarr and its codecs raise
            raise StorageError(
                f"the store {root} is damaged: samples {start} to {stop - 1} of {name!r} cannot be read ({error})."
            ) from error
