"""Save records to a safetensors file, whole or not at all, and load them; checksums are compared at the first read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch

from spatialprobe.activations.collection import Activations, as_records
from spatialprobe.activations.records import Activation, At, ConvSpec
from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.model.layout import Layout, fits
from spatialprobe.model.tokens import Tokens
from spatialprobe.storage.archive import Archive
from spatialprobe.storage.schema import MalformedError, Or, check
from spatialprobe.storage.stored import StoredTensor
from spatialprobe.tensors import dense_values

_ARCHIVE = Archive("spatialprobe activations", 1, writer="save_activations", kind="file of activations")
_PLAIN = ("layer", "aliases", "call", "forward", "order", "at", "module_type")  # fields that JSON holds as they are
_CONV = {
    "kernel_size": [int],
    "stride": [int],
    "padding": Or([int], str),
    "dilation": [int],
    "groups": int,
    "transposed": bool,
}
_TOKENS = {"height": int, "width": int, "leading": int}
_RECORD = {
    "layer": str,
    "aliases": [str],
    "call": int,
    "forward": int,
    "order": int,
    "at": set(get_args(At)),
    "module_type": str,
    "conv": Or(None, _CONV),
    "layout": Or(None, {"channels_first", "channels_last"}, _TOKENS),
    "keys": [str],
}


def save_activations(
    path: str | os.PathLike[str], records: Activations | Activation | Mapping[str, Activation] | Iterable[Activation]
) -> Path:
    """Write records with all their metadata to a file, and return its path.

    Sparse and mkldnn tensors are stored as dense ones of the same values and dtype.

    Args:
        path: a file, usually `*.safetensors`; an existing file is replaced when the new one is complete.
        records: a probe, such as `capture` returns, one record, or a mapping or sequence of records. A file stores
            them by layer name; the keys of a mapping are not stored, so they must be the names of the layers.

    Raises:
        ArgumentError: there are no records, or keys of a mapping are not the names of the records' layers.
        StorageError: the file cannot be written, or a tensor's dtype cannot be stored.
        UnsupportedOutputError: a record has no values that can be read as one array.
        MutatedActivationError: a record has lost its values.

    >>> import tempfile, torch, spatialprobe as sp
    >>> records = sp.capture(torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = sp.load_activations(sp.save_activations(f"{folder}/maps.safetensors", records))
    >>> torch.equal(loaded[""].tensor, records[""].tensor)
    True
    """
    if isinstance(records, Mapping) and not isinstance(records, Activations):
        other = [
            key for key, one in records.items() if isinstance(one, Activation) and key not in (one.layer, *one.aliases)
        ]
        if other:
            raise ArgumentError(
                f"A file stores records by layer name, and would lose the names {', '.join(map(repr, other))}: save "
                "each under a path of its own, or pass a list of them."
            )
    tensors: dict[str, torch.Tensor] = {}
    described = []
    for index, record in enumerate(as_records(records, "save_activations()")):
        values = {"tensor": record.tensor, "gradient": record.gradient}
        stored = {
            f"{index}.{name}": _as_stored(record.layer, value) for name, value in values.items() if value is not None
        }
        tensors.update(stored)
        described.append(_describe_record(record, list(stored)))
    return _ARCHIVE.write(path, tensors, {"records": described})


def load_activations(path: str | os.PathLike[str]) -> Activations:
    """Return the records of a file, on the CPU, as a mapping from layer names.

    The file is mapped into memory. Its description is verified at once; each tensor is read, and compared with its
    checksum, when a record's values are first used: values that were damaged are an error then, never returned. Do
    not write into the file meanwhile; `save_activations` replaces it whole, which leaves these records as they are.

    Raises:
        StorageError: the file is damaged, of another kind, or of a newer version of the format. Reading the values of
            a record raises it too, where they do not match their checksum.
        FileNotFoundError: there is no such file.

    >>> import tempfile, torch, spatialprobe as sp
    >>> records = sp.capture(torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = sp.save_activations(f"{folder}/maps.safetensors", records)
    ...     print(sp.load_activations(path))
    Activations of maps.safetensors: 1 layer ran, 1 record, 288 B
      layer    type    runs  shape         dtype    size
      (model)  Conv2d     1  (1, 2, 6, 6)  float32  288 B
    """
    records = _ARCHIVE.open(path, _build_records)
    return Activations(records, title=f"Activations of {Path(path).name}")


def _as_stored(layer: str, value: torch.Tensor) -> torch.Tensor:
    """Return a tensor as a file stores it: dense, and in its dtype.

    Raises:
        UnsupportedOutputError: it has no values that can be read as one array.
        StorageError: it is quantized.
    """
    if value.is_quantized:
        raise StorageError(
            f"Layer {layer!r} returned a quantized tensor ({value.dtype}), which safetensors cannot store: keep "
            "dequantized values with transform=torch.dequantize."
        )
    return dense_values(layer, value.detach())


def _describe_record(record: Activation, keys: list[str]) -> dict[str, Any]:
    """Return the fields of a record as JSON values, with the keys of its tensors in the file."""
    fields = {name: getattr(record, name) for name in _PLAIN}
    layout = asdict(record.layout) if isinstance(record.layout, Tokens) else record.layout
    conv = None if record.conv is None else asdict(record.conv)
    return {**fields, "layout": layout, "conv": conv, "keys": keys}


def _build_records(description: dict[str, Any], tensors: Mapping[str, StoredTensor]) -> list[Activation]:
    """Return the records that a file describes.

    Raises:
        MalformedError: the description is invalid, or tensors are missing.
    """
    _fill_in_layouts(description)
    check(description, {"records": [_RECORD]}, "the description")
    return [_build_record(index, described, tensors) for index, described in enumerate(description["records"])]


def _fill_in_layouts(description: dict[str, Any]) -> None:
    """Add the layouts that files of 0.1 lack: channels first for convolutions, unknown for other layers."""
    records = description.get("records")
    for one in records if isinstance(records, list) else ():
        if isinstance(one, dict):
            one.setdefault("layout", "channels_first" if one.get("conv") else None)


def _build_record(index: int, described: dict[str, Any], tensors: Mapping[str, StoredTensor]) -> Activation:
    known = {f"{index}.{name}": name for name in ("tensor", "gradient")}
    values: dict[str, StoredTensor | None] = {"tensor": None, "gradient": None}
    for key in described["keys"]:
        if key not in known or key not in tensors:
            raise MalformedError(f"record {index} has no tensor {short_repr(key)}")
        values[known[key]] = tensors[key]
    if values["tensor"] is None:
        raise MalformedError(f"record {index} has no tensor")
    conv = described["conv"]
    fields = {name: described[name] for name in _PLAIN} | {"aliases": tuple(described["aliases"])}
    layout = _build_layout(described["layout"], values["tensor"].value)
    spec = None if conv is None else _build_conv_spec(conv)
    return Activation(**fields, layout=layout, conv=spec, **values)  # type: ignore[arg-type]


def _build_layout(described: Any, values: torch.Tensor) -> Layout | None:
    """Return the layout of a record's values.

    Raises:
        MalformedError: it cannot be theirs.
    """
    if not isinstance(described, dict):
        return described  # type: ignore[no-any-return]  # it has been checked
    try:
        layout = Tokens(**described)
    except ArgumentError as error:
        raise MalformedError(str(error)) from error
    if not fits(layout, tuple(values.shape)):
        raise MalformedError(f"values of {tuple(values.shape)} are not {layout}")
    return layout


def _build_conv_spec(described: dict[str, Any]) -> ConvSpec:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in described.items()
    }
    return ConvSpec(**fields)
