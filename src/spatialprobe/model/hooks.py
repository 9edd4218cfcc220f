"""Attach forward hooks, all or none, keep them last, and remove exactly those."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from spatialprobe.model.compiled import hold_eager, release_eager

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
ForwardPreHook = Callable[[nn.Module, tuple[Any, ...]], None]


class ProbeHook(partial[Any]):
    """A hook of this library; in a copied or unpickled model it does nothing."""

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _inert_hook, ()


class Attached:
    """Hooks that are on, and compiled models that run eagerly so that the hooks fire; closing it ends both.

    A plain class, since an `ExitStack` takes longer than all the hooks of a small model.
    """

    __slots__ = ("_eager", "_handles")

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._eager = hold_eager()

    def add(self, handle: RemovableHandle) -> None:
        """Take this hook off, too, when closed."""
        self._handles.append(handle)

    def close(self) -> None:
        """Take off exactly these hooks, the last first, and give back the compiler's stance."""
        while self._handles:
            self._handles.pop().remove()
        if self._eager:
            self._eager = False
            release_eager()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def attach(
    layers: Iterable[tuple[nn.Module, ProbeHook]],
    model: nn.Module,
    begins: ProbeHook,
    ends: ProbeHook,
) -> Attached:
    """Hooks on each layer, and a pair around the whole model, all or none; closing the result removes exactly these.

    The layers' hooks come after all that are there, so that they see what the layer hands on. The pair around
    the model encloses everything else: `begins` comes first, `ends` last, and also after an exception.
    """
    attached = Attached()
    try:
        for module, hook in layers:
            attached.add(module.register_forward_hook(hook))
        attached.add(model.register_forward_pre_hook(begins, prepend=True))
        attached.add(model.register_forward_hook(ends, always_call=True))
    except BaseException:
        attached.close()
        raise
    return attached


def attach_edits(edits: Iterable[tuple[nn.Module, ForwardHook]]) -> Attached:
    """Hooks that change what layers hand on: after the user's own, and before those of every probe; all or none."""
    attached = Attached()
    try:
        for module, hook in edits:
            attached.add(module.register_forward_hook(hook))
            keep_last(module)
    except BaseException:
        attached.close()
        raise
    return attached


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
