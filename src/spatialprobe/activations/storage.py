"""Records as a safetensors file: written whole or not at all, and checked bit by bit when read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spatialprobe.activations.checksum import apart, digest, fingerprint
from spatialprobe.activations.collection import Activations
from spatialprobe.activations.records import Activation, ConvSpec
from spatialprobe.errors import StorageError
from spatialprobe.files import replacing

_FORMAT = "spatialprobe activations"
_VERSION = 1
_PLAIN = ("layer", "aliases", "call", "forward", "order", "at", "module_type")  # fields that JSON holds as they are


def save_activations(path: str | os.PathLike[str], records: Activations | Iterable[Activation]) -> Path:
    """Write records with all their metadata, and return the path.

    Args:
        path: a file, usually `*.safetensors`; one that exists is replaced when the new one is whole.
        records: a probe, what `capture` returned, or any records.

    Raises:
        StorageError: the folder does not exist, or a tensor's dtype cannot be stored.
        MutatedActivationError: a record has lost its values.

    >>> import tempfile, torch, spatialprobe as sp
    >>> records = sp.capture(torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = sp.load_activations(sp.save_activations(f"{folder}/maps.safetensors", records))
    >>> torch.equal(loaded[""].tensor, records[""].tensor)
    True
    """
    from safetensors.torch import save_file

    target = Path(path)
    if not target.parent.is_dir():
        raise StorageError(f"Cannot save {target.name!r}: the folder {str(target.parent)!r} does not exist.")
    tensors: dict[str, torch.Tensor] = {}
    described = []
    for index, record in enumerate(records.records if isinstance(records, Activations) else records):
        values = {"tensor": record.tensor, "gradient": record.gradient}
        stored = {f"{index}.{name}": value for name, value in values.items() if value is not None}
        tensors.update(stored)
        described.append(_described(record, stored))
    text = json.dumps(described)
    metadata = {"format": _FORMAT, "version": str(_VERSION), "records": text, "digest": digest(text.encode())}
    with replacing(target) as scratch:
        try:
            save_file(apart(tensors), scratch, metadata)
        except (KeyError, ValueError, RuntimeError) as error:
            dtypes = ", ".join(sorted({str(tensor.dtype) for tensor in tensors.values()}))
            raise StorageError(
                f"Cannot save {target.name!r}: safetensors holds no tensors of {dtypes} ({error})."
            ) from error
    return target


def load_activations(path: str | os.PathLike[str]) -> Activations:
    """The records of a file, on the CPU, as a mapping from layer names; every tensor's checksum is compared.

    Raises:
        StorageError: the file is damaged, of another kind, or of a newer version of the format.
        FileNotFoundError: there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"No file {str(source)!r}.")
    try:
        with safe_open(source, framework="pt") as file:
            described = _records_of(file.metadata() or {}, source)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{str(source)!r} is damaged, or no file of activations: {error}.") from error
    expected = {key for record in described for key in record["tensors"]}
    if expected != set(tensors):
        raise StorageError(f"{str(source)!r} is damaged: it does not hold the tensors it speaks of. Save it again.")
    return Activations(
        [_loaded(record, tensors, source) for record in described], title=f"Activations of {source.name}"
    )


def _described(record: Activation, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A record in words: its fields, and for each tensor what it must be when it is read again."""
    fields = {name: getattr(record, name) for name in _PLAIN}
    return {
        **fields,
        "conv": None if record.conv is None else asdict(record.conv),
        "tensors": {key: fingerprint(tensor) for key, tensor in tensors.items()},
    }


def _records_of(metadata: Mapping[str, str], source: Path) -> list[dict[str, Any]]:
    """The records as a file's metadata describe them."""
    if metadata.get("format") != _FORMAT:
        raise StorageError(f"{str(source)!r} was not written by save_activations, or its header is damaged.")
    version, text = metadata.get("version", ""), metadata.get("records", "")
    if version.isdecimal() and int(version) > _VERSION:
        raise StorageError(f"{str(source)!r} has format {version}; this version reads {_VERSION}. Update spatialprobe.")
    if version != str(_VERSION) or metadata.get("digest") != digest(text.encode()):
        raise StorageError(f"{str(source)!r} is damaged: its description does not match its checksum. Save it again.")
    records: list[dict[str, Any]] = json.loads(text)
    return records


def _loaded(described: dict[str, Any], tensors: Mapping[str, torch.Tensor], source: Path) -> Activation:
    """One record, after comparing its tensors with their descriptions."""
    values: dict[str, torch.Tensor | None] = {"tensor": None, "gradient": None}
    for key, expected in described["tensors"].items():
        if fingerprint(tensors[key]) != expected:
            raise StorageError(
                f"{str(source)!r} is damaged: the values of layer {described['layer']!r} do not match their checksum. "
                "Save it again."
            )
        values[key.split(".")[1]] = tensors[key]
    conv = described["conv"]
    fields = {name: described[name] for name in _PLAIN} | {"aliases": tuple(described["aliases"])}
    return Activation(**fields, conv=None if conv is None else _conv_spec(conv), **values)  # type: ignore[arg-type]


def _conv_spec(described: dict[str, Any]) -> ConvSpec:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in described.items()
    }
    return ConvSpec(**fields)
