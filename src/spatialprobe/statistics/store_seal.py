"""What makes damages of a store show: checksums of what describes its arrays, and which chunks there must be.

The values have checksums of their own, zarr's CRC-32C of each chunk. Beside them a store can lose a file, which zarr
reads as values that were never written, or have a bit flipped in the JSON that describes it.
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
    """Return a group's attributes with a checksum of these and of all else that describes it, and its arrays if any.

    Raises:
        StorageError: what describes it cannot be read.
    """
    return attributes | {_DIGEST: _digest(attributes, folder, ARRAYS if arrays else ())}


def list_groups(root: Path) -> list[str]:
    """Return the names of all groups with arrays that lie in a store's folder, in order."""
    found = {path.parents[1].relative_to(root) for path in root.rglob(f"{ARRAYS[0]}/zarr.json") if _is_array(path)}
    return sorted(path.as_posix() for path in found if not path.parts[0].startswith("."))  # half made ones do


def check_group(root: Path, name: str, first: int, last: int) -> None:
    """Check that a group is what it was made as, and has a chunk for all samples from a row to before another.

    Raises:
        StorageError: something is damaged, or gone; the message names it.
    """
    folder = root / name
    attributes = _described(folder).get("attributes")
    if not isinstance(attributes, dict) or attributes.get(_DIGEST) != _digest(attributes, folder, ARRAYS):
        raise StorageError(f"what describes {name!r} in the store {shown_path(root)} is damaged")
    for array in ARRAYS:
        for chunk in _chunks(_described(folder / array), first, last):
            path = folder / array / chunk
            if not path.is_file() or not path.stat().st_size:  # a machine that loses its power may leave an empty one
                raise StorageError(f"the store {shown_path(root)} has lost {chunk!r} of {name + '/' + array!r}")


def check_root(root: Path) -> dict[str, Any]:
    """Return the attributes of a store that is whole.

    Raises:
        StorageError: it is not a store, not whole, or what describes it is damaged.
    """
    attributes = _described(root).get("attributes")
    if not isinstance(attributes, dict) or not isinstance(attributes.get("format"), str):
        raise StorageError(f"{shown_path(root)} is not a store of a sweep, or is damaged.")
    if "groups" not in attributes:
        raise StorageError(f"the store {shown_path(root)} is not whole: its sweep was ended before all was written.")
    if attributes.get(_DIGEST) != _digest(attributes, root, ()):
        raise StorageError(f"what describes the store {shown_path(root)} is damaged.")
    return attributes


def _digest(attributes: dict[str, Any], folder: Path, arrays: Sequence[str]) -> str:
    """Return a checksum of attributes, and of what describes the group and its arrays but for how long they are."""
    described: list[Any] = [{name: value for name, value in attributes.items() if name != _DIGEST}]
    described.append({name: value for name, value in _described(folder).items() if name != "attributes"})
    for array in arrays:
        found = _described(folder / array)
        shape = found.get("shape")
        described.append(found | {"shape": shape[1:] if isinstance(shape, list) else shape})
    return digest(json.dumps(described, sort_keys=True).encode())


def _described(folder: Path) -> dict[str, Any]:
    """Return what a group or an array says of itself."""
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
    """Whether a description is that of an array, and not of the group of a layer that is called like one."""
    return _described(path.parent).get("node_type") == "array"


def _chunks(described: dict[str, Any], first: int, last: int) -> Iterator[str]:
    """Yield the files of the chunks that hold some rows; of each row there is one, as long as it is not empty."""
    chunk = described["chunk_grid"]["configuration"]["chunk_shape"]
    if 0 in described["shape"][1:]:
        return
    rest = "/0" * (len(chunk) - 1)
    for number in range(first // chunk[0], -(-last // chunk[0])):
        yield f"c/{number}{rest}"
