"""End a forward pass that has given all that was asked of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NoReturn

from torch import nn


class Stopped(BaseException):
    """Ends a forward pass; no `except Exception` of a model can swallow it."""


def stop_forward(model: nn.Module, until: ExitStack) -> NoReturn:
    """Raise `Stopped`, and let no later module of the model run before `until` is closed.

    The second is for models that swallow the exception all the same.
    """
    for module in model.modules():
        until.callback(module.register_forward_pre_hook(_stop, prepend=True).remove)
    raise Stopped


def _stop(module: nn.Module, args: tuple[Any, ...]) -> NoReturn:
    raise Stopped
