"""Checksums of tensors, and tensors in the form in which they are written."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def own(value: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU, contiguous, and with memory of its own, as safetensors wants it."""
    return value.detach().to("cpu", copy=True).contiguous()


def fingerprint(tensor: torch.Tensor) -> list[Any]:
    """Shape, dtype, and checksum of the bytes of a contiguous tensor on the CPU."""
    data = tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""
    return [list(tensor.shape), str(tensor.dtype), digest(data)]


def digest(data: Any) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
