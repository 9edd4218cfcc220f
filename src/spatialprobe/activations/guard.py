"""Decide whether a tensor can be shared with the model or must be copied.

A tensor and all its views share one version counter, which every in-place write increments. A value can be kept
without a copy as long as its counter is checked: reading a modified value is then an error, never a wrong value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from spatialprobe.errors import MutatedActivationError

Copy = Literal["auto", "always", "never"]

_NO_VALUES = torch.empty(0, device="cpu")


class Guard:
    """What is known about one layer: whether the model modifies its output in place within a forward pass."""

    __slots__ = ("copies", "copy", "layer", "overwritten")

    def __init__(self, layer: str, copy: Copy) -> None:
        self.layer = layer
        self.copy: Copy = copy
        self.overwritten: bool | None = None  # None: not known yet
        self.copies = copy != "never"  # whether the layer's values are copied, as far as is known

    def learn(self, overwritten: bool) -> None:
        """Note whether a whole forward pass modified the output in place; a single modification is never forgotten."""
        if overwritten or self.overwritten is None:
            self.overwritten = overwritten
            self.copies = self.copy == "always" or (self.copy == "auto" and overwritten)


class WriteWatch:
    """The version counter of a live tensor, without its memory: shows whether the model modified it in place."""

    __slots__ = ("_counter", "_guard", "_version")

    def __init__(self, guard: Guard, alias: torch.Tensor) -> None:
        """Take an alias that nothing else refers to, as `detach` makes them; it loses its values."""
        if type(alias) is not torch.Tensor:  # a subclass may have other data, or refuse that it is replaced
            with torch._C.DisableTorchFunctionSubclass():
                alias = alias.detach()
        self._guard = guard
        self._version = alias._version
        # A tensor whose data is replaced keeps its counter, which it shares with what it was an alias of.
        alias.data = _NO_VALUES if alias.is_cpu else alias.new_empty(0)
        self._counter = alias

    def settle(self, *, whole: bool) -> None:
        """Report to the guard what the pass has shown; only a `whole` one shows that a tensor is not modified."""
        overwritten = self._counter._version != self._version
        if overwritten or whole:
            self._guard.learn(overwritten)


class KeptValue:
    """The value of a record: a copy, or a shared tensor whose version counter is checked at each read."""

    __slots__ = ("_ready", "guard", "value", "version")

    def __init__(
        self,
        value: torch.Tensor,
        guard: Guard,
        version: int | None = None,
        ready: torch.cuda.Event | None = None,
    ) -> None:
        self.value = value  # unchecked: for its shape, dtype and device
        self.guard = guard
        self.version = version  # at the time it was kept; None for a copy
        self._ready = ready  # until this event the values are being copied from the accelerator

    def check_intact(self) -> bool:
        """Return whether the value is unmodified; if it is not, the layer's outputs are copied from now on."""
        if self.version is None or self.value._version == self.version:
            return True
        self.guard.learn(overwritten=True)
        return False

    def read(self) -> torch.Tensor:
        """Return the value as the layer returned it, after waiting for a copy from the accelerator.

        Raises:
            MutatedActivationError: it was shared with the model, and was modified in place.
        """
        if not self.check_intact():
            raise MutatedActivationError(
                f"The record of layer {self.guard.layer!r} shared its memory with the model, and that memory was "
                f"modified in place {self.value._version - (self.version or 0)} times since. Its values are lost. "
                + (
                    "The layer is copied from now on: run the model again, or pass copy='always'."
                    if self.guard.copy == "auto"
                    else "Pass copy='auto' or copy='always'."
                )
            )
        if self._ready is not None:
            self._ready.synchronize()
            self._ready = None
        return self.value

    def __reduce__(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[Any, ...]]:
        # A copied or unpickled record holds a tensor of its own, whose counter is not comparable.
        return _identity, (self.read(),)


def version_of(value: torch.Tensor) -> int | None:
    """Return the version counter of a tensor; None for inference tensors, which have none."""
    return None if value.is_inference() else value._version


def _identity(value: torch.Tensor) -> torch.Tensor:
    return value
