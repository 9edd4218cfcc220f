"""The memory that a probe may use: for values that are kept, and for live tensors that are watched."""

from __future__ import annotations

import threading

import torch

from spatialprobe.activations.guard import Guard
from spatialprobe.errors import MemoryBudgetError
from spatialprobe.text import format_bytes


class WatchedTensor:
    """A live tensor that was copied, held until its pass ends to see whether the model modifies it in place."""

    __slots__ = ("guard", "size", "value", "version")

    def __init__(self, guard: Guard, value: torch.Tensor, size: int) -> None:
        self.guard = guard
        self.value: torch.Tensor | None = value  # None once it was released to make room
        self.size = size  # bytes
        self.version = value._version


class Budget:
    """The memory that all kept values take together, in bytes.

    Live tensors that are only watched count too, but are released when their memory is needed for kept values.
    """

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.held = 0
        self._watched: list[WatchedTensor] = []
        self._lock = threading.Lock()

    def take(self, layer: str, size: int) -> None:
        """Add `size` bytes to what is held.

        Raises:
            MemoryBudgetError: the total would exceed what is allowed.
        """
        if self.allowed is None:
            return
        with self._lock:
            while self._watched and self.held + size > self.allowed:
                self._release(self._watched[0])
            if self.held + size <= self.allowed:
                self.held += size
                return
            raise MemoryBudgetError(
                f"Keeping the output of layer {layer!r} takes {format_bytes(size)}; {format_bytes(self.held)} are held "
                f"and max_bytes allows {format_bytes(self.allowed)}. Probe fewer layers, reduce what is kept with "
                "transform= or dtype=, run fewer images, or raise max_bytes; plan() returns the need beforehand."
            )

    def watch(self, watched: WatchedTensor) -> bool:
        """Add a watched tensor if there is room for it; return whether there is."""
        if self.allowed is None:
            return True
        with self._lock:
            fits = self.held + watched.size <= self.allowed
            if fits:
                self.held += watched.size
                self._watched.append(watched)
        return fits

    def settle(self, watched: WatchedTensor, *, whole: bool) -> None:
        """Find out whether a watched tensor was modified in place, and release it."""
        if self.allowed is None:
            _update_guard(watched, whole=whole)
            return
        with self._lock:
            if watched.value is not None:
                _update_guard(watched, whole=whole)
                self._release(watched)

    def _release(self, watched: WatchedTensor) -> None:
        _update_guard(watched, whole=False)
        watched.value = None
        self.held -= watched.size
        self._watched.remove(watched)


def _update_guard(watched: WatchedTensor, *, whole: bool) -> None:
    """Report to the guard of a watched tensor whether it was modified in place."""
    overwritten = watched.value is not None and watched.value._version != watched.version
    if overwritten or whole:
        watched.guard.learn(overwritten)
