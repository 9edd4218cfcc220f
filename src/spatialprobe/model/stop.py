"""End a forward pass that has given all that was asked of it."""

from __future__ import annotations

from threading import get_ident
from typing import Any, NoReturn

from torch import nn

from spatialprobe.model.hooks import Hooks
from spatialprobe.model.undo import Undo


class Stopped(BaseException):
    """Ends a forward pass; no `except Exception` of a model can swallow it."""


def stop_forward(model: nn.Module, undo: Undo) -> NoReturn:
    """Raise `Stopped`, and let no later module of the model run in this thread before `undo` runs.

    The second is for models that swallow the exception all the same. One hook for all modules does it, which takes less
    time than one on each, and stops scripted modules too.
    """
    Hooks(undo).add_before_all(_StopHook(model))
    raise Stopped


class _StopHook:
    """Stops each module of one model in one thread."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {id(module) for module in model.modules()}
        self._thread = get_ident()

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if id(module) in self._modules and get_ident() == self._thread:
            raise Stopped
