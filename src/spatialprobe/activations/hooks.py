"""Attach forward hooks, all or none, and remove exactly those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from torch import nn

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], None]
ForwardPreHook = Callable[[nn.Module, tuple[Any, ...]], None]


def attach(
    layers: Iterable[tuple[nn.Module, ForwardHook]],
    model: nn.Module,
    begins: ForwardPreHook,
    ends: ForwardHook,
) -> ExitStack:
    """Hooks on each layer, and a pair around the whole model; closing the result removes exactly these.

    The layers' hooks come after all that are there, so that they see what the layer hands on. The pair around
    the model encloses everything else: `begins` comes first, `ends` last, and also after an exception.
    """
    with ExitStack() as stack:
        for module, hook in layers:
            stack.callback(module.register_forward_hook(hook).remove)
        stack.callback(model.register_forward_pre_hook(begins, prepend=True).remove)
        stack.callback(model.register_forward_hook(ends, always_call=True).remove)
        return stack.pop_all()
    raise AssertionError("unreachable: an ExitStack without suppressors returns or raises")
