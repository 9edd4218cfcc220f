"""Add hooks to modules, keep those of probes last, and remove exactly the added ones when a block ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as module_hooks

from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.undo import Undo

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
ForwardPreHook = Callable[..., Any]  # of the module, its arguments, and with `with_kwargs` its keyword arguments


class CopiedInert:
    """A hook of this library that becomes a function without effect in a copied or unpickled model."""

    content: tuple[Any, ...] = ()  # distinguishes it from other hooks of its class

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (nullcontext(), "__exit__")  # takes any arguments and returns None


class ProbeHook(CopiedInert, partial[Any]):
    """A hook that returns None, or values equal to the output."""


class Hooks:
    """Hooks that stay registered until `undo` runs."""

    __slots__ = ("_added",)

    def __init__(self, undo: Undo) -> None:
        self._added: list[tuple[Callable[..., Any], dict[int, Any], dict[int, bool]]] = []
        undo.add(self._remove)

    def add(self, module: nn.Module, hook: ForwardHook, *, always_call: bool = False) -> None:
        """Register a forward hook after the existing ones."""
        self._added.append((hook, module._forward_hooks, module._forward_hooks_always_called))
        module.register_forward_hook(hook, always_call=always_call)

    def add_before(
        self, module: nn.Module, hook: ForwardPreHook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> None:
        """Register a forward pre-hook."""
        self._added.append((hook, module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs))
        module.register_forward_pre_hook(hook, prepend=prepend, with_kwargs=with_kwargs)

    def add_before_all(self, hook: ForwardPreHook) -> None:
        """Register a forward pre-hook of all modules in the process."""
        self._added.append((hook, module_hooks._global_forward_pre_hooks, {}))
        module_hooks.register_module_forward_pre_hook(hook)

    def _remove(self) -> None:
        """Remove each hook, found by identity, since torch returns its handle only after it has been added."""
        while self._added:
            hook, hooks, marks = self._added[-1]
            for key, known in hooks.items():
                if known is hook:
                    marks.pop(key, None)
                    del hooks[key]  # last, or nothing would find its mark again
                    break
            del self._added[-1]


def attach(
    undo: Undo,
    layers: Iterable[tuple[nn.Module, ProbeHook]],
    model: nn.Module,
    begins: ProbeHook,
    ends: ProbeHook,
    before: Iterable[tuple[nn.Module, ProbeHook]] = (),
) -> None:
    """Register hooks on each layer and a pair around the whole model until `undo` runs; compiled models run eagerly.

    The layers' hooks come after all existing ones, so that they get what the layer returns. The pair around the model
    encloses everything else: `begins` is called first, `ends` last, and also after an exception.
    """
    hold_eager(undo)
    hooks = Hooks(undo)
    for module, hook in layers:
        hooks.add(module, hook)
    for module, hook in before:
        hooks.add_before(module, hook, with_kwargs=True)
    hooks.add_before(model, begins, prepend=True, with_kwargs=True)
    hooks.add(model, ends, always_call=True)


def attach_edits(undo: Undo, edits: Iterable[tuple[nn.Module, ForwardHook]]) -> None:
    """Register hooks that change layers' outputs: after the user's own, and before those of every probe."""
    hold_eager(undo)
    hooks = Hooks(undo)
    for module, hook in edits:
        hooks.add(module, hook)
        keep_last(module)


def keep_last(module: nn.Module) -> None:
    """Move the probes' hooks of a module behind hooks that were added later and may change the output."""
    hooks = module._forward_hooks
    if not hooks or isinstance(next(reversed(hooks.values())), ProbeHook):
        return
    for key in [key for key, hook in hooks.items() if isinstance(hook, ProbeHook)]:
        hooks.move_to_end(key)  # type: ignore[attr-defined]  # torch keeps them in an OrderedDict
