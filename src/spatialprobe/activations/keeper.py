"""How the value of a layer is kept: transformed, moved, copied or shared, and within a budget of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from spatialprobe.activations.guard import Copy, Guard, Kept, version_of
from spatialprobe.errors import ArgumentError, MemoryBudgetError, UnsupportedOutputError
from spatialprobe.text import byte_size

Transform = Callable[[torch.Tensor], torch.Tensor]
Watched = tuple[Guard, torch.Tensor, int]  # a live tensor that was copied, and its version counter at that time


@dataclass(frozen=True)
class Keeping:
    """How the user wants values to be kept."""

    copy: Copy = "auto"
    transform: Transform | None = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    keep_graph: bool = False
    max_bytes: int | None = None

    @property
    def plain(self) -> bool:
        """Whether values are kept as they are, but for the question of copying."""
        return self.transform is None and self.device is None and self.dtype is None and not self.keep_graph


class Budget:
    """The memory that all kept values take together, in bytes."""

    def __init__(self, allowed: int | None) -> None:
        self.allowed = allowed
        self.held = 0
        self._lock = threading.Lock()

    def fits(self, size: int) -> bool:
        """Whether so many more bytes are allowed."""
        return self.allowed is None or self.held + size <= self.allowed

    def take(self, layer: str, size: int) -> None:
        """Count so many more bytes for a layer.

        Raises:
            MemoryBudgetError: they are not allowed.
        """
        if self.allowed is None:
            return
        with self._lock:
            if self.fits(size):
                self.held += size
                return
            raise MemoryBudgetError(
                f"Keeping the output of layer {layer!r} takes {byte_size(size)}; {byte_size(self.held)} are held and "
                f"max_bytes allows {byte_size(self.allowed)}. Probe fewer layers, reduce what is kept with "
                "transform= or dtype=, run fewer images, or allow more; plan() tells the need beforehand."
            )

    def release(self, size: int) -> None:
        """Count so many bytes as free again."""
        if self.allowed is not None:
            with self._lock:
                self.held -= size


class Keeper:
    """Turns live values into kept ones, in one way for all layers of a probe."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._plain = keeping.plain
        self.budget = Budget(keeping.max_bytes)

    def keep(self, guard: Guard, value: torch.Tensor, watched: list[Watched]) -> Kept:
        """The value as it is to be kept; a live tensor worth watching is added to `watched`."""
        if self._plain:
            return self._guarded(guard, value.detach(), watched)
        if self._keeping.keep_graph:
            return self._in_graph(guard, value)
        live = value.detach()
        with torch.no_grad():
            made = self._transformed(guard.layer, live)
            moved, ready = self._moved(made)
        if moved is made and _shares_memory(made, live):
            return self._guarded(guard, made, watched)
        self.budget.take(guard.layer, _size(moved))
        version = version_of(moved) if moved is made else None  # the transform may have kept its result too
        return Kept(moved, guard, version, ready)

    def _guarded(self, guard: Guard, value: torch.Tensor, watched: list[Watched]) -> Kept:
        """A tensor of the model, copied or shared as its guard says."""
        if not (guard.copies or value.is_inference()):  # without a counter there is nothing to watch
            if self.budget.allowed is not None:
                self.budget.take(guard.layer, value.untyped_storage().nbytes())
            return Kept(value, guard, value._version)
        size = _size(value)
        self.budget.take(guard.layer, size)
        if guard.copy == "auto" and guard.overwritten is None and not value.is_inference() and self.budget.fits(size):
            self.budget.take(guard.layer, size)
            watched.append((guard, value, value._version))
        return Kept(value.clone(), guard)

    def _in_graph(self, guard: Guard, value: torch.Tensor) -> Kept:
        """A differentiable clone."""
        made = self._transformed(guard.layer, value)
        self.budget.take(guard.layer, _size(made))
        moved = made.to(self._keeping.device, self._keeping.dtype or made.dtype)
        return Kept(moved.clone() if moved is made else moved, guard)

    def settle(self, watched: list[Watched], *, whole: bool) -> None:
        """Learn which of the watched tensors were written over, and let them go.

        Only a `whole` forward pass teaches that a tensor is left alone.
        """
        for guard, value, version in watched:
            overwritten = value._version != version
            if overwritten or whole:
                guard.learn(overwritten)
            self.budget.release(_size(value))
        watched.clear()

    def _transformed(self, layer: str, value: torch.Tensor) -> torch.Tensor:
        if self._keeping.transform is None:
            return value
        version = version_of(value)
        made = self._keeping.transform(value)
        if not isinstance(made, torch.Tensor):
            raise UnsupportedOutputError(
                f"transform= returned a {type(made).__name__} for layer {layer!r}, not a tensor; it was given a tensor "
                f"{tuple(value.shape)}."
            )
        if version_of(value) != version:
            raise ArgumentError(
                f"transform= wrote over the output of layer {layer!r} in place, and so changed what the model "
                "computes. Let it return a new tensor instead, such as x.relu() for x.relu_()."
            )
        return made

    def _moved(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """The value on the device and in the dtype asked for; from CUDA to the CPU without waiting."""
        device, dtype = self._keeping.device or value.device, self._keeping.dtype or value.dtype
        if value.device.type != "cuda" or device.type != "cpu":
            return value.to(device, dtype), None
        pinned = torch.empty(value.shape, dtype=dtype, pin_memory=True)
        pinned.copy_(value.to(dtype), non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(value.device))
        return pinned, ready


def _shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _size(value: torch.Tensor) -> int:
    return value.numel() * value.element_size()
