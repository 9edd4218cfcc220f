"""Repeat changes of layers' outputs when an activation checkpoint recomputes the layers.

A checkpoint runs a part of the model again in the backward pass, which may come after the block that changed layers'
outputs, or inside another one. The recomputation must repeat the same changes, or its gradients are wrong. So the
hooks that change outputs form a `Replay`: it joins the checkpoints around it while they run forward, and is active
again when they recompute, but nowhere else in a backward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from spatialprobe.activations.checkpoints import find_running_frames, find_running_functions, get_inputs_of
from spatialprobe.activations.watch import current_backward, is_backward
from spatialprobe.errors import ProbeStateError
from spatialprobe.model.hooks import CopiedInert, ForwardHook, attach_edits
from spatialprobe.model.undo import Undo, undo_block

Hooks = Sequence[tuple[nn.Module, ForwardHook]]


class _Recomputing(threading.local):
    """The recomputations that the current thread is running."""

    def __init__(self) -> None:
        self.replays: dict[object, tuple[Replay, Hooks]] = {}
        self.inputs: dict[object, tuple[Any, ...]] = {}  # of checkpoints
        self.by_backward: dict[int, list[Replay]] = {}  # in functions that are not known to be checkpoints


_recomputing = _Recomputing()


class Replay:
    """Hooks that change layers' outputs, while a block is open and whenever a checkpoint recomputes.

    Args:
        action: what the hooks do to a layer, for error messages, such as "was edited".
    """

    def __init__(self, action: str) -> None:
        self._action = action
        self._hooks: Hooks | None = None  # while the block is open

    def open(self, hooks: Hooks) -> None:
        """Begin the block; the caller adds the hooks, and removes them again."""
        self._hooks = hooks

    def close(self) -> None:
        """End the block."""
        self._hooks = None

    @property
    def is_active(self) -> bool:
        """Whether the hooks may change outputs in the current thread now."""
        return self.is_repeated if is_backward() else self._hooks is not None

    @property
    def is_repeated(self) -> bool:
        """Whether the current thread recomputes layers that ran with the hooks."""
        unknown = _recomputing.by_backward.get(current_backward(), ())
        return self in unknown or any(replay is self for replay, _ in _recomputing.replays.values())

    def join(self, layer: str) -> None:
        """Join every checkpoint whose forward pass is running in the current thread."""
        repeated = [hooks for replay, hooks in _recomputing.replays.values() if replay is self]
        hooks = (self._hooks or ()) if not repeated else repeated[0]
        for frame in find_running_frames():
            _as_recomputation(frame, "recompute_fn").replays.setdefault(self, hooks)
        for context in find_running_functions():
            if callable(getattr(context, "run_function", None)):
                _as_recomputation(context, "run_function").replays.setdefault(self, hooks)
            else:
                _UnknownFunction(self, layer, context)

    def repeat(self, undo: Undo, hooks: Hooks) -> None:
        """Let the hooks change outputs in the current thread, until `undo` runs."""
        if self._hooks is None and not self.is_repeated:
            attach_edits(undo, [(module, _InThread(hook)) for module, hook in hooks])
        key = object()
        undo.add(_recomputing.replays.pop, key, None)
        _recomputing.replays[key] = self, hooks

    def refuse(self, layer: str, name: str) -> None:
        """Raise an error if the block has ended, since a function may recompute the layer without the hooks.

        Raises:
            ProbeStateError: the block has ended.
        """
        if self._hooks is None:
            raise ProbeStateError(
                f"Layer {layer!r} {self._action} inside {name}, a function with a backward pass of its own, which may "
                "recompute the layer. That cannot be repeated after the block: call backward() inside it."
            )


class _Recomputation:
    """The function that a checkpoint runs in the backward pass, with the replays that joined it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.replays: dict[Replay, Hooks] = {}  # held here, since a replay that held its hooks would be a cycle
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with undo_block() as undo:
            key = object()
            undo.add(_recomputing.inputs.pop, key, None)
            _recomputing.inputs[key] = args
            for replay, hooks in self.replays.items():
                replay.repeat(undo, hooks)
            return self._function(*args, **kwargs)


def _as_recomputation(holder: Any, attribute: str) -> _Recomputation:
    """Return the function with which a checkpoint recomputes as one that replays can join."""
    function = getattr(holder, attribute)
    if not isinstance(function, _Recomputation):
        function = _Recomputation(function)
        setattr(holder, attribute, function)
    return function


class _InThread(CopiedInert):
    """A hook that changes outputs only in the thread that made it."""

    def __init__(self, hook: ForwardHook) -> None:
        self._hook = hook
        self._thread = threading.get_ident()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        return self._hook(module, args, output) if threading.get_ident() == self._thread else None


class _UnknownFunction:
    """Hooks of a custom autograd function that may recompute layers: allowed in the block, an error after it."""

    def __init__(self, replay: Replay, layer: str, context: Any) -> None:
        self._replay = replay
        self._layer = layer
        self._name = type(context).__name__
        context.register_prehook(self._begin_backward)
        context.register_hook(self._end_backward)

    def _begin_backward(self, gradients: Any) -> None:
        self._replay.refuse(self._layer, self._name)
        _recomputing.by_backward.setdefault(current_backward(), []).append(self._replay)

    def _end_backward(self, inputs: Any, outputs: Any) -> None:
        replays = _recomputing.by_backward.get(current_backward(), [])
        if self._replay in replays:
            replays.remove(self._replay)
        if not replays:
            _recomputing.by_backward.pop(current_backward(), None)


def checkpoint_inputs() -> list[Any]:
    """Return the inputs of the checkpoints that run or recompute in the current thread."""
    return [*_recomputing.inputs.values(), *(get_inputs_of(frame) for frame in find_running_frames())]
