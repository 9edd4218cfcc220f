"""A writer of the safetensors format: a length, a JSON header, and the bytes of the tensors in sequence.

The writer of the safetensors library creates a temporary file of its own beside its target, which stays when the
process is killed, and holds a second copy of all tensors in memory. This one does neither. Checksums of large tensors
are computed by a second thread while the first writes them, and the header, which holds them, is written last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch

from spatialprobe.storage.checksum import NO_DIGEST, bytes_of, fingerprint

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
_LARGE = 2**20  # bytes, from which a second thread saves more time than it takes to start

Checks: TypeAlias = dict[str, list[Any]]  # for each tensor: shape, dtype, checksum
Describe: TypeAlias = Callable[[Checks], Mapping[str, str]]  # the texts in the header of a file with these checksums


def check_dtypes(tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that the format supports the dtypes of all tensors.

    Raises:
        ValueError: it does not support one.
    """
    unknown = sorted({_plain(tensor.dtype) for tensor in tensors.values()} - _NAMES.keys())
    if unknown:
        raise ValueError(f"safetensors does not support {', '.join(unknown)}")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], describe: Describe) -> None:
    """Write contiguous tensors on the CPU, the widest dtypes first so that all are aligned.

    `describe` returns texts whose lengths do not depend on the checksums that it is given.

    Raises:
        OSError: the operating system cannot write them.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    blank = {name: [list(tensor.shape), str(tensor.dtype), NO_DIGEST] for name, tensor in tensors.items()}
    room = len(_format_header(ordered, describe(blank)))
    with path.open("wb") as file, _hash_meanwhile(ordered) as checks:
        file.seek(room)
        for _, tensor in ordered:
            file.write(bytes_of(tensor))
        file.seek(0)
        found = checks()
        file.write(_format_header(ordered, describe({name: found[name] for name in tensors})))


@contextmanager
def _hash_meanwhile(ordered: Sequence[tuple[str, torch.Tensor]]) -> Iterator[Callable[[], Checks]]:
    """Yield a function that returns the checksums of tensors, which are computed during the block if they are large."""
    if sum(tensor.nbytes for _, tensor in ordered) < _LARGE:
        yield lambda: _hash(ordered)
        return
    pool = ThreadPoolExecutor(1)
    try:
        yield _begin_hashing(pool, ordered)
    finally:
        pool.shutdown(cancel_futures=True)  # so that an interrupt waits for one tensor, not for all


def _begin_hashing(pool: ThreadPoolExecutor, ordered: Sequence[tuple[str, torch.Tensor]]) -> Callable[[], Checks]:
    """Begin to compute the checksums of tensors, and return a function that waits for them."""
    try:
        begun = {name: pool.submit(fingerprint, tensor) for name, tensor in ordered}
    except RuntimeError:  # the interpreter is about to exit, and starts no more threads
        return lambda: _hash(ordered)
    return lambda: {name: one.result() for name, one in begun.items()}


def _hash(ordered: Sequence[tuple[str, torch.Tensor]]) -> Checks:
    return {name: fingerprint(tensor) for name, tensor in ordered}


def _format_header(ordered: Sequence[tuple[str, torch.Tensor]], metadata: Mapping[str, str]) -> bytes:
    """Return the beginning of a file: the length of the JSON header, and the header."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[_plain(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
