"""Attach forward hooks, all or none, keep them last, and remove exactly those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
ForwardPreHook = Callable[[nn.Module, tuple[Any, ...]], None]


class ProbeHook(partial[Any]):
    """A hook of this library; in a copied or unpickled model it does nothing."""

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert_hook, ()


def attach(
    layers: Iterable[tuple[nn.Module, ProbeHook]],
    model: nn.Module,
    begins: ProbeHook,
    ends: ProbeHook,
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


def attach_edits(edits: Iterable[tuple[nn.Module, ForwardHook]]) -> ExitStack:
    """Hooks that change what layers hand on: after the user's own, and before those of every probe."""
    with ExitStack() as stack:
        for module, hook in edits:
            stack.callback(module.register_forward_hook(hook).remove)
            keep_last(module)
        return stack.pop_all()
    raise AssertionError("unreachable: an ExitStack without suppressors returns or raises")


def keep_last(module: nn.Module) -> None:
    """Move the probes' hooks of a module behind hooks that were added later and may change the output."""
    hooks = module._forward_hooks
    if not hooks or isinstance(next(reversed(hooks.values())), ProbeHook):
        return
    for key in [key for key, hook in hooks.items() if isinstance(hook, ProbeHook)]:
        hooks[key] = hooks.pop(key)


def _inert_hook() -> Callable[..., None]:
    return _do_nothing


def _do_nothing(*_: Any) -> None:
    """What is left of a hook in a copy of the model."""
