"""What a model is given: copies of the caller's tensors, which the model may modify in place."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def own_copies(inputs: T) -> T:
    """Return nested inputs with a copy of each tensor, in the graph that the tensor is in.

    A tensor that is there twice is one tensor in the copy too: some models ask whether two inputs are the same one.

    >>> image = torch.zeros(1)
    >>> first, second = own_copies((image, image))
    >>> first is second, first is image
    (True, False)
    """
    copies: dict[int, torch.Tensor] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.clone()
        return copies[id(tensor)]

    made: T = tree_map_only(torch.Tensor, copied, inputs)
    return made
