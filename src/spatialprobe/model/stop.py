"""Stop a forward pass early, once it has computed everything that is needed."""

from __future__ import annotations

from threading import get_ident
from typing import Any, NoReturn

from torch import nn

from spatialprobe.model.hooks import Hooks
from spatialprobe.model.undo import Undo


class Stopped(BaseException):
    """An exception that ends a forward pass; not an `Exception`, so that models do not swallow it."""


def stop_forward(model: nn.Module, undo: Undo) -> NoReturn:
    """Raise `Stopped`, and also from every later module of the model in this thread, until `undo` runs.

    The latter is for models that swallow the exception nevertheless. One global hook raises it, which takes less time
    than a hook on each module, and stops scripted modules too.
    """
    Hooks(undo).add_before_all(_StopHook(model))
    raise Stopped


class _StopHook:
    """A hook that stops each module of one model in one thread."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {id(module) for module in model.modules()}
        self._thread = get_ident()

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if id(module) in self._modules and get_ident() == self._thread:
            raise Stopped
