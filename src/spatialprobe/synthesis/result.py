"""What was found to drive channels up, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from spatialprobe.fields.box import Box
from spatialprobe.html_table import format_html_table
from spatialprobe.text import format_count, format_table

if TYPE_CHECKING:
    from spatialprobe.render.mosaic import Mosaic

ATTEMPTS = 64  # random images at which an ascent may begin
_NUMBERS = (0, 1, 2, 3)  # columns that are flush right
_FEW = 24  # channels that a table lists


@dataclass(frozen=True, eq=False, repr=False)
class MaximizedActivation:
    """Inputs that drive channels of a layer up, with the values that they reach; all tensors are on the CPU.

    >>> import torch, spatialprobe as sp
    >>> _ = torch.manual_seed(0)
    >>> conv = torch.nn.Conv2d(3, 2, 3)
    >>> found = sp.maximize_activation(conv, "", shape=(3, 8, 8), steps=32)
    >>> found.images.shape, found.patches.shape, found.history.shape, found.unmoved.tolist()
    (torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 3, 3]), torch.Size([32, 2]), [False, False])
    >>> bool((found.reached > found.start).all())
    True
    """

    layer: str
    unit: tuple[int, ...] | None  # its position along each unit axis, () without any; None: the mean over all units
    channels: torch.Tensor  # (C,) int64: which channels, in this order
    images: torch.Tensor  # (C, *shape) float32, before `normalize`; in the middle of the bounds outside the box
    box: Box | None  # the pixels that the unit sees; None for inputs without spatial axes
    reached: torch.Tensor  # (C,) float32: the value at the image, without transforms
    start: torch.Tensor  # (C,) float32: the value at the random image at which the ascent began
    best_real: torch.Tensor | None  # (C,) float32: the largest value that the exemplars have; None without any
    history: torch.Tensor  # (steps, C) float32: the value at each step, under that step's transforms
    unmoved: torch.Tensor  # (C,) bool: no random image gave a gradient, so that the image is one of these
    bounds: tuple[float, float]  # of pixels
    seed: int

    @property
    def patches(self) -> torch.Tensor:
        """The pixels that the unit sees, (C, channels of the input, *box.shape): all that was searched."""
        return self.images if self.box is None else self.images[(slice(None), slice(None), *self.box.slices)]

    def mosaic(self, *, columns: int | None = None) -> Mosaic:
        """Return the patches as one picture, each under its channel's number and the value that it reaches.

        Inputs of one or three channels over two axes are shown as images, of others a row of maps, one for each channel
        of the input. Channels that nothing moved are hatched.

        Args:
            columns: the number of columns, of images; chosen to fit if left out.

        Raises:
            ArgumentError: the inputs have no spatial axes.
        """
        from spatialprobe.synthesis.picture import draw_patches  # so that numbers wait for no drawing

        return draw_patches(self, columns)

    def __repr__(self) -> str:
        return "\n".join([format_table(self._title(), [self._headings(), *self._rows()], _NUMBERS), *self._remarks()])

    def _repr_html_(self) -> str:
        """The picture and the table for a notebook."""
        table = format_html_table(
            self._title(), self._headings(), self._rows(), flush_right=_NUMBERS, remarks=self._remarks()
        )
        return table if self.box is None else f"{self.mosaic()._repr_html_()}{table}"

    def _title(self) -> str:
        where = "the mean over all units" if self.unit is None else f"unit {self.unit}" if self.unit else "no unit axes"
        return (
            f"MaximizedActivation of layer {self.layer!r}, {where}, {format_count(len(self.channels), 'channel')}, "
            f"{format_count(len(self.history), 'step')}"
        )

    def _headings(self) -> tuple[str, ...]:
        return ("channel", "start", "reached", *(("best real",) if self.best_real is not None else ()), "")

    def _rows(self) -> list[tuple[str, ...]]:
        columns = [self.start, self.reached, *([self.best_real] if self.best_real is not None else [])]
        return [
            (
                str(int(channel)),
                *(f"{float(column[row]):.4g}" for column in columns),
                "no gradient" if self.unmoved[row] else "",
            )
            for row, channel in enumerate(self.channels[:_FEW])
        ]

    def _remarks(self) -> list[str]:
        """Return the lines below the table."""
        more, still = len(self.channels) - _FEW, self.channels[self.unmoved].tolist()
        return [
            *([f"and {format_count(more, 'more channel')}"] if more > 0 else []),
            *([f"{describe_unmoved(still)}."] if still else []),
        ]


def describe_unmoved(channels: list[int]) -> str:
    """Return the words for channels that nothing moved."""
    named = f"Channel{'s' * (len(channels) > 1)} {', '.join(map(str, channels))}"
    return f"{named}: no gradient at any of {ATTEMPTS} random images, so nothing was found"
