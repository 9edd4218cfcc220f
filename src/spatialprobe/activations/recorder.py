"""What one entered probe has seen so far: the hooks' side of a probe."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from spatialprobe.activations.hooks import ForwardHook
from spatialprobe.activations.post import Follower, Trail
from spatialprobe.activations.records import Activation, At
from spatialprobe.activations.select import Layer
from spatialprobe.errors import UnsupportedOutputError

OutputPicker = Callable[[Any], torch.Tensor]


class Recorder:
    """Collects the records of the thread that made it."""

    def __init__(self, at: At, output: OutputPicker | None) -> None:
        self.records: list[Activation] = []
        self.ran: set[str] = set()  # names of the layers that ran
        self.trails: list[Trail] = []  # what became of each output, for "post_activation" only
        self._at: At = at
        self._output = output
        self._thread = threading.get_ident()
        self._calls: Counter[tuple[str, int]] = Counter()  # by layer and forward
        self._started = 0  # forwards of the model so far
        self._running: list[int] = []  # those not ended, the innermost last
        self._follower = Follower() if at == "post_activation" else None
        self._following = False
        self._open: list[tuple[Trail, list[Activation]]] = []  # the trails of this forward, and what they kept

    def hook_for(self, layer: Layer) -> ForwardHook:
        """The forward hook of one layer."""
        return partial(self._layer_ran, layer)

    def forward_begins(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the model."""
        if threading.get_ident() != self._thread:
            return
        self._running.append(self._started)
        self._started += 1
        if self._follower is not None and not self._following:
            self._follower.__enter__()  # type: ignore[no-untyped-call]
            self._following = True

    def forward_ends(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook of the model; runs after an exception too."""
        if threading.get_ident() == self._thread and self._running:
            self._running.pop()
            if not self._running:
                self.stop_following()

    def stop_following(self) -> None:
        """Leave the torch functions of the thread alone again, and settle what they showed."""
        if self._follower is None:
            return
        if self._following:
            self._follower.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._follower.forget()
            self._following = False
        for trail, kept in self._open:
            self.trails.append(trail)
            if trail.problem() is None:
                self.records += (replace(record, order=len(self.records)) for record in kept)
        self._open.clear()

    def _layer_ran(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        value = self._picked(layer, output)
        forward = self._running[-1] if self._running else self._started
        call = self._calls[layer.name, forward]
        self._calls[layer.name, forward] += 1
        self.ran.add(layer.name)
        if self._follower is None:
            self._keep(layer, call, forward, self.records, value)
        else:
            kept: list[Activation] = []
            trail = Trail(layer.name, partial(self._keep, layer, call, forward, kept))
            self._open.append((trail, kept))
            self._follower.follow(value, [trail])

    def _keep(self, layer: Layer, call: int, forward: int, into: list[Activation], value: torch.Tensor) -> None:
        copy = value.detach().clone()
        into.append(Activation.of(layer, copy, call=call, forward=forward, order=len(into), at=self._at))

    def _picked(self, layer: Layer, output: Any) -> torch.Tensor:
        value = output if self._output is None else self._output(output)
        if isinstance(value, torch.Tensor):
            return value
        if self._output is not None:
            raise UnsupportedOutputError(
                f"output= returned a {type(value).__name__} for layer {layer.name!r}, not a tensor. "
                f"It was given {_leaves(output)}."
            )
        raise UnsupportedOutputError(
            f"Layer {layer.name!r} ({type(layer.module).__name__}) returned no single tensor but "
            f"{_leaves(output)}. Pick one with output=, such as output=lambda out: out[0]."
        )


def _leaves(output: Any) -> str:
    """The leaves of a nested output with their paths and shapes, for an error message."""
    leaves, _ = tree_flatten_with_path(output)
    described = (
        f"[{keystr(path) or 'itself'}] "
        + (f"a tensor {tuple(leaf.shape)}" if isinstance(leaf, torch.Tensor) else f"a {type(leaf).__name__}")
        for path, leaf in leaves
    )
    return f"a {type(output).__name__} with " + (", ".join(described) or "no leaves")
