"""Matching the channels of two layers one to one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch

MatchedBy = Literal["hungarian", "greedy"]


def match_channels(correlation: torch.Tensor) -> tuple[torch.Tensor, MatchedBy]:
    """Return for each row the column that goes with it, one to one, so that the sum of correlations is large.

    Where scipy is installed it is the largest possible [Kuhn 1955]; else the largest entry of the rows and columns that
    are left is taken first.

    >>> match_channels(torch.tensor([[0.9, 0.1], [0.8, 0.2]]))[0]
    tensor([0, 1])
    """
    if find_spec("scipy") is not None:
        from scipy.optimize import linear_sum_assignment

        return torch.from_numpy(linear_sum_assignment(correlation.numpy(), maximize=True)[1]).long(), "hungarian"
    return match_greedily(correlation), "greedy"


def match_greedily(correlation: torch.Tensor) -> torch.Tensor:
    """Return the match that takes the largest entry of the rows and columns that are left, again and again."""
    rows, columns = correlation.shape
    match = np.full(rows, -1)
    taken = np.zeros(columns, dtype=bool)
    for entry in correlation.flatten().argsort(descending=True, stable=True).tolist():
        row, column = divmod(entry, columns)
        if match[row] < 0 and not taken[column]:
            match[row], taken[column] = column, True
    return torch.from_numpy(match).long()
