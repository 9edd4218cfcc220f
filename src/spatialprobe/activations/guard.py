"""May this tensor be shared with the model, or must it be copied?

A tensor and all its views have one version counter, which every in-place write raises. A value may be kept without
a copy as long as its counter is watched: what was overwritten is then an error, never a wrong value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from spatialprobe.errors import MutatedActivationError

Copy = Literal["auto", "always", "never"]


class Guard:
    """What is known of one layer: whether the model writes over its output within a forward pass."""

    __slots__ = ("copies", "copy", "layer", "overwritten")

    def __init__(self, layer: str, copy: Copy) -> None:
        self.layer = layer
        self.copy: Copy = copy
        self.overwritten: bool | None = None  # None: not known yet
        self.copies = copy != "never"  # whether the layer's values are copied, as far as is known

    def learn(self, overwritten: bool) -> None:
        """Take note of what a whole forward pass did to the output; one overwriting settles it for good."""
        if overwritten or self.overwritten is None:
            self.overwritten = overwritten
            self.copies = self.copy == "always" or (self.copy == "auto" and overwritten)


class KeptValue:
    """One value that a record gives: a copy, or a shared tensor whose version counter is checked when read."""

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
        self.version = version  # at the time it was kept; None for a copy of its own
        self._ready = ready  # until then the values are on their way from the accelerator

    def check_intact(self) -> bool:
        """Whether nobody wrote over it; if somebody did, the layer is copied from now on."""
        if self.version is None or self.value._version == self.version:
            return True
        self.guard.learn(overwritten=True)
        return False

    def read(self) -> torch.Tensor:
        """The value, complete and as it was handed on.

        Raises:
            MutatedActivationError: it was shared with the model, and something wrote over it.
        """
        if not self.check_intact():
            raise MutatedActivationError(
                f"The record of layer {self.guard.layer!r} shared its memory with the model, and that memory was "
                f"written over in place {self.value._version - (self.version or 0)} times since. Its values are gone. "
                + (
                    "The layer is copied from now on: run the model again, or give copy='always'."
                    if self.guard.copy == "auto"
                    else "Give copy='auto' or copy='always'."
                )
            )
        if self._ready is not None:
            self._ready.synchronize()
            self._ready = None
        return self.value

    def __reduce__(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[Any, ...]]:
        # A copied or unpickled record holds a tensor of its own, with a counter that nobody knows.
        return _identity, (self.read(),)


def version_of(value: torch.Tensor) -> int | None:
    """The version counter of a tensor; None for inference tensors, which have none."""
    return None if value.is_inference() else value._version


def _identity(value: torch.Tensor) -> torch.Tensor:
    return value
