"""Detection of damage to a store: checksums of its metadata, and the chunks that must exist.

zarr stores a CRC-32C checksum with each chunk, which protects its values. It does not detect a lost file, which it
reads as values that were never written, nor a flipped bit in the JSON metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spatialprobe.errors import StorageError
from spatialprobe.storage.checksum import digest
from spatialprobe.storage.files import describe_os_error, shown_path

ARRAYS = ("activation", "sample")
_DIGEST = "digest"  # the attribute of a group that holds its checksum


def seal_attributes(attributes: dict[str, Any], folder: Path, *, arrays: bool) -> dict[str, Any]:
    """Return a group's attributes with a checksum of them and of the metadata of the group, and of its arrays if any.

    Raises:
        StorageError: the metadata cannot be read.
    """
    return attributes | {_DIGEST: _digest(attributes, folder, ARRAYS if arrays else ())}


def list_groups(root: Path) -> list[str]:
    """Return the sorted names of all groups with arrays in a store's folder."""
    found = {path.parents[1].relative_to(root) for path in root.rglob(f"{ARRAYS[0]}/zarr.json") if _is_array(path)}
    return sorted(path.as_posix() for path in found if not path.parts[0].startswith("."))  # hidden: incomplete


def check_group(root: Path, name: str, first: int, last: int) -> None:
    """Check that a group's metadata is undamaged, and that the chunks of the rows from `first` to before `last` exist.

    Raises:
        StorageError: something is damaged or missing; the message names it.
    """
    folder = root / name
    attributes = _read_metadata(folder).get("attributes")
    if not isinstance(attributes, dict) or attributes.get(_DIGEST) != _digest(attributes, folder, ARRAYS):
        raise StorageError(f"the metadata of {name!r} in the store {shown_path(root)} is damaged")
    for array in ARRAYS:
        for chunk in _chunks(_read_metadata(folder / array), first, last):
            path = folder / array / chunk
            if not path.is_file() or not path.stat().st_size:  # a power failure may leave an empty file
                raise StorageError(f"the store {shown_path(root)} has lost {chunk!r} of {name + '/' + array!r}")


def check_root(root: Path) -> dict[str, Any]:
    """Return the attributes of a complete store.

    Raises:
        StorageError: it is not a store, is not complete, or its metadata is damaged.
    """
    attributes = _read_metadata(root).get("attributes")
    if not isinstance(attributes, dict) or not isinstance(attributes.get("format"), str):
        raise StorageError(f"{shown_path(root)} is not a store of a sweep, or is damaged.")
    if "groups" not in attributes:
        raise StorageError(
            f"the store {shown_path(root)} is not complete: its sweep ended before everything was written."
        )
    if attributes.get(_DIGEST) != _digest(attributes, root, ()):
        raise StorageError(f"the metadata of the store {shown_path(root)} is damaged.")
    return attributes


def _digest(attributes: dict[str, Any], folder: Path, arrays: Sequence[str]) -> str:
    """Return a checksum of attributes and of the metadata of the group and its arrays, except the arrays' lengths."""
    described: list[Any] = [{name: value for name, value in attributes.items() if name != _DIGEST}]
    described.append({name: value for name, value in _read_metadata(folder).items() if name != "attributes"})
    for array in arrays:
        found = _read_metadata(folder / array)
        shape = found.get("shape")
        described.append(found | {"shape": shape[1:] if isinstance(shape, list) else shape})
    return digest(json.dumps(described, sort_keys=True).encode())


def _read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a group or an array.

    Raises:
        StorageError: it cannot be read.
    """
    path = folder / "zarr.json"
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{shown_path(path)} cannot be read: {describe_os_error(error)}") from error
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{shown_path(path)} is damaged") from error
    if not isinstance(found, dict):
        raise StorageError(f"{shown_path(path)} is damaged")
    return found


def _is_array(path: Path) -> bool:
    """Return whether a metadata file is that of an array, rather than of the group of a layer with such a name."""
    return _read_metadata(path.parent).get("node_type") == "array"


def _chunks(described: dict[str, Any], first: int, last: int) -> Iterator[str]:
    """Yield the files of the chunks that hold some rows; there are none for arrays whose samples are empty."""
    chunk = described["chunk_grid"]["configuration"]["chunk_shape"]
    if 0 in described["shape"][1:]:
        return
    rest = "/0" * (len(chunk) - 1)
    for number in range(first // chunk[0], -(-last // chunk[0])):
        yield f"c/{number}{rest}"
