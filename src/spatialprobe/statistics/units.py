"""Activations as channels of units, split into pieces that fit a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.tensors import computable_values
from spatialprobe.text import format_count

_PIECE = {"cpu": 1 << 16}  # values; in float64 this is half of a typical second-level cache
_LARGE_PIECE = 1 << 24  # for accelerators, where starting a kernel costs more than reading memory


def as_units(activation: torch.Tensor) -> torch.Tensor:
    """Return an activation (N, C, *spatial) as (N, C, L), with the units of each map in row-major order.

    Booleans become zeros and ones, sparse and quantized tensors dense ones, and dtypes for which torch supports few
    operations wider ones.

    Raises:
        ArgumentError: it has no channel axis, or holds complex numbers.
        UnsupportedOutputError: it has no values that can be read as one array.
    """
    if not isinstance(activation, torch.Tensor):
        raise ArgumentError(f"activation must be a tensor (N, C, *spatial), not {short_repr(activation)}.")
    activation = computable_values(None, activation)
    if activation.dtype is torch.bool:
        activation = activation.to(torch.uint8)
    if activation.ndim < 2 or activation.is_complex():
        raise ArgumentError(
            f"statistics of channels need real values (N, C, *spatial), not {activation.dtype} "
            f"{tuple(activation.shape)}."
        )
    if activation.device.type == "mps":  # MPS lacks float64
        activation = activation.cpu()
    return activation.flatten(2) if activation.ndim > 2 else activation.unsqueeze(2)


def split_pieces(units: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the units (N, C, L) in pieces (n, c, L) of some samples and channels, each after its slice of channels."""
    n, c, length = units.shape
    size = _PIECE.get(units.device.type, _LARGE_PIECE)
    channels = min(c, max(1, size // max(1, length)))
    samples = max(1, size // max(1, length * channels))
    for first in range(0, c, channels):
        chosen = slice(first, first + channels)
        for start in range(0, n, samples):
            yield chosen, units[start : start + samples, chosen]


def check_samples(samples: torch.Tensor, activation: torch.Tensor) -> None:
    """Check that `samples` holds one position in the data for each sample of an activation.

    Raises:
        ArgumentError: it does not.
    """
    if not isinstance(samples, torch.Tensor) or samples.dtype != torch.int64 or samples.shape != activation.shape[:1]:
        raise ArgumentError(
            f"samples must be the positions of the activation's {len(activation)} samples in the data, int64 "
            f"({len(activation)},), not {short_repr(samples)}."
        )


def check_mergeable(reducer: object, other: object) -> None:
    """Check that `other` is a reducer of the same class.

    Raises:
        ArgumentError: it is not.
    """
    if type(other) is not type(reducer):
        name = type(reducer).__name__
        raise ArgumentError(f"{name} merges only reducers of its class, {name}, not {short_repr(other)}.")


def check_same_channels(seen: int, now: int) -> None:
    """Check that an activation has as many channels as the reducer has seen before.

    Raises:
        ArgumentError: it does not.
    """
    if seen != now:
        raise ArgumentError(
            f"{format_count(now, 'channel')} after {seen}: a reducer takes the activations of one layer."
        )


def reduce_maps_first(length: int) -> bool:
    """Return whether maps of this many units are reduced faster along each map than across samples (measured)."""
    return length >= 64
