"""The maps of a record: its values with the channels second, and tokens that have no place apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spatialprobe.model.layout import Layout


@dataclass(frozen=True, eq=False)
class Maps:
    """A record's values as maps, whatever the layout of the layer; what `Activation.maps` returns.

    >>> import torch, spatialprobe as sp
    >>> record = sp.capture(torch.nn.Linear(3, 8), torch.rand(2, 17, 3), layers="")[""]  # a class token, 4 x 4 patches
    >>> maps = record.maps(layout=sp.Tokens(4, 4, leading=1))
    >>> maps.values.shape, maps.leading.shape
    (torch.Size([2, 8, 4, 4]), torch.Size([2, 1, 8]))
    """

    values: torch.Tensor  # (N, C, *units), a view of the record's tensor where that is dense
    leading: torch.Tensor | None  # (N, L, C), the tokens before the grid; None if there are none
    layout: Layout  # of the record's tensor

    def __repr__(self) -> str:
        leading = "" if self.leading is None else f", leading={tuple(self.leading.shape)}"
        return f"Maps({tuple(self.values.shape)}{leading}, layout={self.layout!r})"
