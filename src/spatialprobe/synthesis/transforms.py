"""Small random changes of the images at each step, so that what is found does not hang on single pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import radians

import torch
import torch.nn.functional as F

Transform = Callable[[torch.Tensor], torch.Tensor]  # of a batch of inputs (N, *shape), of which it keeps the shape

_PER_SHIFT = 16  # pixels of a box's side for each pixel of jitter: smaller boxes are not changed
_SCALE = 0.05  # of the size, up or down
_ANGLE = 5.0  # degrees, to either side


@dataclass(frozen=True)
class Jitter:
    """Random shifts, scales and rotations that are in proportion to the box.

    The border repeats its last pixel. Boxes below 16 pixels are not changed at all: what a first layer looks for is as
    small as the changes would be. Scales and rotations need two axes.

    >>> Jitter.of((3, 3)).shifts, Jitter.of((64, 40)).shifts
    ((0, 0), (4, 2))
    """

    shifts: tuple[int, ...]  # pixels along each axis, at most, in either direction

    @staticmethod
    def of(sides: tuple[int, ...]) -> Jitter:
        """Return the changes for boxes of these sides."""
        return Jitter(tuple(side // _PER_SHIFT for side in sides))

    @property
    def is_none(self) -> bool:
        """Whether images stay as they are."""
        return not any(self.shifts)

    def apply(self, patches: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return patches (N, channels, *sides), all changed alike."""
        if self.is_none:
            return patches
        for axis, most in enumerate(self.shifts, start=2):
            if most:
                shift = int(torch.randint(-most, most + 1, (), generator=generator, device="cpu"))
                places = torch.arange(patches.shape[axis], device=patches.device) + shift
                patches = patches.index_select(axis, places.clamp(0, patches.shape[axis] - 1))
        return _turn(patches, generator) if len(self.shifts) == 2 and all(self.shifts) else patches


def _turn(patches: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return patches (N, channels, height, width), scaled and rotated a little."""
    scale, angle = (2 * torch.rand(2, generator=generator, device="cpu") - 1).tolist()
    height, width = patches.shape[2:]
    turn = torch.tensor(radians(_ANGLE * angle), device="cpu")
    cos, sin = (float(part) * (1 + _SCALE * scale) for part in (turn.cos(), turn.sin()))
    rows = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]  # in shares of each side
    matrix = torch.tensor(rows, device=patches.device, dtype=patches.dtype).expand(len(patches), 2, 3)
    grid = F.affine_grid(matrix, list(patches.shape), align_corners=False)
    return F.grid_sample(patches, grid, padding_mode="border", align_corners=False)
