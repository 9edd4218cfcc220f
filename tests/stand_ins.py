"""Stand-ins for results that pictures take, so that pictures are tested without the code that computes results."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Box:
    """Half-open ranges of input pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def start(self):
        return self.y0, self.x0

    @property
    def stop(self):
        return self.y1, self.x1

    @property
    def shape(self):
        return self.y1 - self.y0, self.x1 - self.x0


@dataclass(frozen=True)
class Field:
    """The field of a chain of convolutions, whose units all have one size and are one stride apart."""

    layer: str = "conv"
    input_size: tuple[int, ...] = (8, 8)
    output_size: tuple[int, ...] = (8, 8)
    size: tuple[int, ...] = (3, 3)
    stride: tuple[int, ...] = (1, 1)
    start: tuple[int, ...] = (-1, -1)
    exact: bool = True
    unknown: tuple[str, ...] = ()

    def box(self, y, x, channel=None, clip=True):
        """Return the box of a unit, None if it sees only padding."""
        first = [start + stride * at for start, stride, at in zip(self.start, self.stride, (y, x), strict=True)]
        last = [one + size for one, size in zip(first, self.size, strict=True)]
        inside = [max(one, 0) for one in first], [min(pair) for pair in zip(last, self.input_size, strict=True)]
        if any(start >= stop for start, stop in zip(*inside, strict=True)):
            return None
        return Box(*inside[0], *inside[1]) if clip else Box(*first, *last)


@dataclass(frozen=True)
class Exemplars:
    """The strongest units of each channel."""

    values: torch.Tensor  # (C, k)
    samples: torch.Tensor  # (C, k)
    positions: torch.Tensor  # (C, k, 2)


@dataclass(frozen=True)
class Histogram:
    """The counts of each channel."""

    counts: torch.Tensor  # (C, bins)
    edges: torch.Tensor  # (C, bins + 1)
    below: torch.Tensor  # (C,)
    above: torch.Tensor  # (C,)


def exemplars_of(maps, k):
    """Return the exemplars of maps (N, C, H, W): each sample counts once, with its first strongest unit."""
    values, flat = maps.flatten(2).max(dim=2)
    order = values.argsort(dim=0, descending=True, stable=True)[:k].T
    unit = flat.T.gather(1, order)
    positions = torch.stack([unit // maps.shape[3], unit % maps.shape[3]], dim=-1)
    return Exemplars(values.T.gather(1, order), order, positions)
