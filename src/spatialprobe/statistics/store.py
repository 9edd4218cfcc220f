"""Activations on disk as Zarr 3 arrays: chunked by sample, compressed, labeled, and with checksums.

They are compressed and written in a thread of its own, while the model computes the next ones.

acts.zarr/                       attributes: format, version, identity, model, at; once complete: groups, rows
  conv1/                         a group for each layer; attributes: the layer's metadata
    activation                   (sample, channel, y, x), or (sample, y, x, channel), as the layer has it
    sample                       int64 (sample): positions in the data
    call_1/                      the same for a layer's second run in one forward, if it has one
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import torch

from spatialprobe.activations.records import At, ConvSpec
from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.model.layout import Layout
from spatialprobe.model.select import Layer
from spatialprobe.model.tokens import Tokens
from spatialprobe.statistics.aside import Aside
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.store_seal import check_group, list_groups, seal_attributes
from spatialprobe.storage.files import describe_os_error, folder_of, path_of, shown_path
from spatialprobe.tensors import numpy_values
from spatialprobe.text import escape_surrogates

if TYPE_CHECKING:
    import zarr

_FORMAT = "spatialprobe store"
_VERSION = 2
_CHUNK_BYTES = 32 << 20  # at most, unless a single sample is larger
_WHOLE_MODEL = "(model)"  # the group of the model itself, whose name is empty
_configuring = threading.Lock()  # zarr's configuration belongs to the whole process
_NAMES = {0: (), 1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


class Store:
    """A writer of the outputs of layers to a Zarr store, in which each process has chunks of its own.

    Without a known length the arrays grow as batches come; this works in one process only.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str,
        at: At,
        identity: str,
        batch_size: int,
        rows: int | None,
        rank: int = 0,
    ) -> None:
        self._path = path_of(path)
        self._rank = rank
        self._at = at
        self._batch_size = batch_size
        self._rows = rows
        self._root_attributes: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "identity": identity,
            "model": model,
            "at": at,
        }
        self._groups: set[str] = set()
        self._aside = Aside()
        self._arrays: dict[tuple[str, int], tuple[Any, Any]] = {}  # (layer, call) -> activations, samples

    def open(self, *, continues: bool, groups: Sequence[str] = (), done: range = range(0)) -> None:
        """Create the root group, or open the one that this sweep created earlier.

        Args:
            continues: whether a checkpoint of this sweep is continued.
            groups: the groups that had been written to when the checkpoint was written.
            done: the rows that had been written by then.

        Raises:
            ArgumentError: zarr is not installed, or the folder does not exist.
            StorageError: the path exists and is something else, or the store to continue is missing or damaged.
        """
        try:
            import zarr
        except ImportError as error:
            raise ArgumentError("store= needs zarr 3: pip install 'spatialprobe[store]'.") from error
        folder_of(self._path.parent, "write a store")
        with self._writing():
            if self._path.exists() and not _is_incomplete(self._path):
                self._root = self._open_existing(continues)
                self._groups.update(groups)
                self._check(done)
            elif done:
                raise StorageError(
                    f"The checkpoint continues a sweep whose store {str(self._path)!r} is gone. Delete it too."
                )
            elif self._rank > 0:
                raise StorageError(
                    f"Rank 0 created the store {str(self._path)!r}, but rank {self._rank} does not find it: it must be "
                    "in a folder that all processes share."
                )
            else:
                self._root = zarr.open_group(self._path, mode="a", zarr_format=3, attributes=self._root_attributes)

    def _check(self, done: range) -> None:
        """Check that the rows that a checkpoint lists as written exist and are undamaged.

        Raises:
            StorageError: they do not, or are not.
        """
        for name in self._groups if done else ():
            try:
                check_group(self._path, name, done.start, done.stop)
            except StorageError as error:
                raise StorageError(
                    f"The checkpoint continues a sweep, but {error}. Delete store and checkpoint to start again."
                ) from error

    def _open_existing(self, continues: bool) -> zarr.Group:
        import zarr

        try:
            root = zarr.open_group(self._path, mode="r+", zarr_format=3)
            found = root.attrs.asdict()
        except Exception as error:  # zarr raises exceptions of any type for foreign files
            raise StorageError(
                f"{str(self._path)!r} exists, and is not a Zarr group: {error}. Pass another path."
            ) from error
        same = found.items() >= self._root_attributes.items()
        if not same or (self._rows is None and not continues):
            raise StorageError(
                f"The store {str(self._path)!r} exists, and is not known to be of this model, data, layers and batch "
                "size. Delete it, or pass another store= path."
            )
        return root

    def write(
        self, layer: Layer, call: int, activation: torch.Tensor, batch: Batch, layout: Layout | None = "channels_first"
    ) -> None:
        """Begin to write the output of a layer for a batch, over earlier values if any.

        The layout is None if it is unclear. What cannot be written is an error at the next call, or of `groups`.

        Raises:
            StorageError: the shape of its samples differs from that of earlier ones, or the store cannot be written.
        """
        values = numpy_values(layer.name, activation)
        key = layer.name, call
        if key not in self._arrays:
            self._arrays[key] = self._open_arrays(layer, call, values, str(activation.dtype), layout)
        if self._arrays[key][0].shape[1:] != values.shape[1:]:
            raise StorageError(
                f"Layer {layer.name!r} returned {tuple(activation.shape)} in {batch}, after (N, "
                f"{', '.join(map(str, self._arrays[key][0].shape[1:]))}): an array holds samples of one shape. Bring "
                "all to one shape, or leave out store=."
            )
        parts = values.copy(), batch.samples.numpy().copy()  # the model may modify its own before they are written
        rows = slice(batch.row, batch.row + len(values))
        self._aside.add(partial(self._write_rows, self._arrays[key], rows, parts), values.nbytes)

    def _write_rows(self, arrays: tuple[Any, Any], rows: slice, parts: tuple[Any, Any]) -> None:
        with self._writing():
            for array, part in zip(arrays, parts, strict=True):
                if self._rows is None and array.shape[0] < rows.stop:
                    array.resize((rows.stop, *array.shape[1:]))
                array[rows] = part

    @property
    def groups(self) -> list[str]:
        """The groups that this process has written to, once all that was begun is written.

        Raises:
            StorageError: something could not be written.
        """
        self._aside.finish()
        return sorted(self._groups)

    def end_writing(self) -> None:
        """Wait for what was begun, and end the thread that writes; may run several times."""
        self._aside.end()

    def close(self, rows: int) -> None:
        """Truncate arrays of unknown length to this number of rows, once this process has written its share."""
        self._aside.finish()
        with self._writing():
            for arrays in self._arrays.values() if self._rows is None else ():
                for array in arrays:
                    array.resize((rows, *array.shape[1:]))

    def seal(self, rows: int) -> None:
        """Write the list of groups and a checksum to the root, once every process has written its share.

        Raises:
            StorageError: the root cannot be written.
        """
        with self._writing():
            there = {**self._root_attributes, "groups": list_groups(self._path), "rows": self._rows or rows}
            self._root.attrs.put(seal_attributes(there, self._path, arrays=False))

    def _open_arrays(self, layer: Layer, call: int, values: Any, dtype: str, layout: Layout | None) -> tuple[Any, Any]:
        """Return the arrays of one run of a layer, created here unless another process has created them."""
        import zarr

        name = _group_name(layer.name, call)
        with self._writing():
            if name not in self._root:
                self._create_group(name, layer, call, values, dtype, layout)
            # Chunks that hold only the fill value are written too, so that a missing chunk means a lost one.
            with _configuring, zarr.config.set({"array.write_empty_chunks": True}):
                group = cast("zarr.Group", self._root[name])
                found = group["activation"], group["sample"]
        self._groups.add(name)
        return found

    def _create_group(self, name: str, layer: Layer, call: int, values: Any, dtype: str, layout: Layout | None) -> None:
        """Create a group under a temporary name and rename it, so that no process sees an incomplete group."""
        import zarr

        temporary = self._path / f".rank{self._rank}.partial"
        if temporary.exists():  # left by an earlier run that was killed
            shutil.rmtree(temporary)
        group = zarr.open_group(temporary, mode="w-", zarr_format=3)
        self._add_arrays(group, values, layout)
        group.attrs.put(seal_attributes(_metadata(layer, call, self._at, dtype), temporary, arrays=True))
        try:
            temporary.rename(self._path / name)
        except OSError:
            shutil.rmtree(temporary)
            if name not in self._root:
                raise

    def _add_arrays(self, group: zarr.Group, values: Any, layout: Layout | None) -> None:
        rows = self._rows or 0
        chunk = _chunk_size(self._batch_size, values[0].nbytes if len(values) else 1)
        labels = _labels(values.ndim, layout)
        shape, chunks = (rows, *values.shape[1:]), (chunk, *values.shape[1:])
        unwritten = float("nan") if values.dtype.kind == "f" else 0
        _add_array(group, "activation", shape, chunks, values.dtype, labels, unwritten)
        _add_array(group, "sample", (rows,), (self._batch_size,), "int64", ("sample",), -1)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Run a block that writes to the store.

        Raises:
            StorageError: it cannot be written to, for example because the disk is full.
        """
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"Cannot write to the store {shown_path(self._path)}: {describe_os_error(error)}."
            ) from error


def _group_name(layer: str, call: int) -> str:
    """Return the path of a layer's run in a store; characters that a path cannot hold are escaped."""
    name = quote(escape_surrogates(layer), safe=" ()[]") or _WHOLE_MODEL
    # The first would be a parent folder or a hidden one, the others are taken.
    if name.startswith(".") or (layer and name in (_WHOLE_MODEL, "zarr.json")):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return f"{name}/call_{call}" if call else name


def _is_incomplete(path: Path) -> bool:
    """Return whether a folder holds only temporary files, of a process killed before it had written the root."""
    return path.is_dir() and all(entry.name.endswith(".partial") for entry in path.iterdir())


def _add_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: Any,
    labels: Sequence[str],
    fill_value: float,
) -> None:
    """Add an array to a group; its values are `fill_value` until they are written."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    group.create_array(
        name,
        shape=tuple(shape),
        chunks=tuple(max(1, size) for size in chunks),
        dtype=dtype,
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()],
        fill_value=fill_value,
        dimension_names=tuple(labels),
    )


def _chunk_size(batch_size: int, sample_bytes: int) -> int:
    """Return the samples in one chunk, a divisor of the batch size, so that no two processes write to one chunk."""
    divisors = (size for size in range(batch_size, 0, -1) if batch_size % size == 0)
    return next((size for size in divisors if size * sample_bytes <= _CHUNK_BYTES), 1)


def _labels(ndim: int, layout: Layout | None) -> tuple[str, ...]:
    """Return the names of the axes of an array of activations; they are numbered if the layout is unclear."""
    if layout is None:
        return ("sample", *(f"axis_{axis}" for axis in range(1, ndim)))
    units = ("token",) if isinstance(layout, Tokens) and ndim > 2 else _axes(ndim - 2)
    return (("sample", "channel", *units) if layout == "channels_first" else ("sample", *units, "channel"))[:ndim]


def _axes(count: int) -> tuple[str, ...]:
    return _NAMES[count] if count in _NAMES else tuple(f"axis_{axis}" for axis in range(count))


def _metadata(layer: Layer, call: int, at: At, dtype: str) -> dict[str, Any]:
    conv = ConvSpec.of(layer.module)
    return {
        "layer": layer.name,
        "aliases": list(layer.aliases),
        "call": call,
        "at": at,
        "module_type": type(layer.module).__name__,
        "dtype": dtype.removeprefix("torch."),
        "conv": None if conv is None else {key: _to_json(value) for key, value in asdict(conv).items()},
    }


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
