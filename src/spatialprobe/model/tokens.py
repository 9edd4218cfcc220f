"""Tokens as a grid: how the rows of an output (N, L, C) lie in an image."""

from __future__ import annotations

from dataclasses import dataclass

from spatialprobe.arguments import as_int


@dataclass(frozen=True)
class Tokens:
    """The layout of an output (N, L, C) whose L tokens are a grid, row by row, behind some that have no place in it.

    It is passed as `layout=`. Maps of such an output are (N, C, height, width).

    Raises:
        ArgumentError: the numbers are no sizes.

    >>> import torch, spatialprobe as sp
    >>> layout = sp.Tokens(4, 6, leading=1)  # a class token, and 4 x 6 patches
    >>> layout.count
    25
    """

    height: int  # rows of the grid
    width: int  # columns of the grid
    leading: int = 0  # tokens before the grid: a class token, registers

    def __post_init__(self) -> None:
        for name, least in (("height", 1), ("width", 1), ("leading", 0)):
            object.__setattr__(self, name, as_int(getattr(self, name), name, least=least))

    @property
    def count(self) -> int:
        """The number of all tokens, the leading ones included."""
        return self.leading + self.height * self.width
