"""Checksums of tensors, and tensors prepared for writing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from spatialprobe.tensors import holds_own_memory, parts_of, shape_text

NO_DIGEST = "0" * 64  # in place of a digest that is not known yet


def separate_memory(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, contiguous, and without shared memory, as safetensors requires.

    Tensors are copied only where necessary, since a copy of everything may not fit into memory.
    """
    taken: set[int] = set()
    found = {}
    for name, value in tensors.items():
        plain = value.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in taken:
            plain = plain.clone()
        taken.add(plain.untyped_storage().data_ptr())
        found[name] = plain
    return found


def fingerprint(value: torch.Tensor) -> list[Any]:
    """Return the shape, dtype, and checksum of the bytes of a tensor, in row-major order.

    For a tensor that is not plain and dense, return those of its parts.

    Raises:
        UnsupportedOutputError: it is a subclass that torch cannot take apart.
    """
    if holds_own_memory(value) and not value.is_meta:
        tensor = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return [list(tensor.shape), str(tensor.dtype), digest(bytes_of(tensor))]
    kind = [shape_text(value), str(value.dtype), str(value.layout), str(value.device.type)]
    return [*kind, *(fingerprint(part) for part in parts_of(value))]


def bytes_of(tensor: torch.Tensor) -> Any:
    """Return the bytes of a contiguous tensor on the CPU, in row-major order, without a copy."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""


def digest(data: Any) -> str:
    """Return the SHA-256 digest of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
