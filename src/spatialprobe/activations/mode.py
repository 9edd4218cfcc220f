"""A model in evaluation mode while a block is active."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode until the block ends, then each in the mode it was in.

    Modes are set one by one, since `eval()` may be overridden with something that `train()` does not undo.
    """
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
