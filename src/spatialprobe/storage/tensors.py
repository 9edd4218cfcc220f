"""A writer of the safetensors format: a length, a JSON header, and the bytes of the tensors in sequence.

The writer of the safetensors library creates a temporary file of its own beside its target, which stays when the
process is killed, and holds a second copy of all tensors in memory. This one does neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from spatialprobe.storage.checksum import bytes_of

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
_ALIGNMENT = 8  # bytes, to which the header is padded with spaces


def check_dtypes(tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that the format supports the dtypes of all tensors.

    Raises:
        ValueError: it does not support one.
    """
    unknown = sorted({_plain(tensor.dtype) for tensor in tensors.values()} - _NAMES.keys())
    if unknown:
        raise ValueError(f"safetensors does not support {', '.join(unknown)}")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors on the CPU, the widest dtypes first so that all are aligned.

    Raises:
        OSError: the operating system cannot write them.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[_plain(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(bytes_of(tensor))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
