"""Keep the value of a layer: transformed, moved, copied or shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from spatialprobe.activations.budget import Budget
from spatialprobe.activations.guard import Copy, Guard, KeptValue, WriteWatch, version_of
from spatialprobe.errors import ArgumentError, UnsupportedOutputError
from spatialprobe.model.settings import disable_gradients
from spatialprobe.tensors import count_bytes, dense_values, holds_own_memory, shape_text, why_unreadable
from spatialprobe.text import kind_of

Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Keeping:
    """The user's options of how values are kept."""

    copy: Copy = "auto"
    transform: Transform | None = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    keep_graph: bool = False
    max_bytes: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether values are kept as they are, copied or shared."""
        return self.transform is None and self.device is None and self.dtype is None and not self.keep_graph


class Keeper:
    """Turns live values into kept ones, with the same options for all layers of a probe."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._is_plain = keeping.is_plain
        self._is_bounded = keeping.max_bytes is not None
        self.budget = Budget(keeping.max_bytes)

    def keep(self, guard: Guard, value: torch.Tensor, watches: list[WriteWatch]) -> KeptValue:
        """Return the value to keep; where the live tensor is to be watched, a watch of it is added to `watches`."""
        if self._is_plain:
            return self._copy_or_share(guard, value.detach(), watches)
        if self._keeping.keep_graph:
            return self._clone_in_graph(guard, value)
        live = value.detach()
        with disable_gradients():
            made = self._apply_transform(guard.layer, live)
            moved, ready = self._move(guard.layer, made)
        if moved is made and _may_share_memory(made, live):
            return self._copy_or_share(guard, made.detach(), watches)
        if self._is_bounded:
            self.budget.take(guard.layer, count_bytes(moved))
        version = version_of(moved) if moved is made else None  # the transform may hold its result too
        return KeptValue(moved, guard, version, ready)

    def _copy_or_share(self, guard: Guard, alias: torch.Tensor, watches: list[WriteWatch]) -> KeptValue:
        """Return a tensor of the model, copied or shared as its guard decides; the alias of it is used up."""
        watchable = holds_own_memory(alias) and not alias.is_inference()
        if watchable and not guard.copies and not (self._is_bounded and _is_part(alias)):
            if self._is_bounded:
                self.budget.take(guard.layer, alias.untyped_storage().nbytes())
            return KeptValue(alias, guard, alias._version)
        if self._is_bounded:
            self.budget.take(guard.layer, count_bytes(alias))
        kept = KeptValue(alias.clone(), guard)
        if watchable and guard.overwritten is None and guard.copy == "auto":
            watches.append(WriteWatch(guard, alias))
        return kept

    def _clone_in_graph(self, guard: Guard, value: torch.Tensor) -> KeptValue:
        """Return a differentiable clone of a value, transformed and moved."""
        made = self._apply_transform(guard.layer, value)
        moved = self._convert(guard.layer, made, self._keeping.device or made.device)
        if self._is_bounded:
            self.budget.take(guard.layer, count_bytes(moved))
        return KeptValue(moved.clone() if moved is made else moved, guard)

    def _apply_transform(self, layer: str, value: torch.Tensor) -> torch.Tensor:
        """Return what the user's transform makes of a value.

        Raises:
            UnsupportedOutputError: the result is not a tensor.
            ArgumentError: the transform modified the value in place.
        """
        if self._keeping.transform is None:
            return value
        version = version_of(value)
        made = self._keeping.transform(value)
        if not isinstance(made, torch.Tensor):
            raise UnsupportedOutputError(
                f"transform= returned {kind_of(made)} for layer {layer!r}, whose output is a tensor "
                f"{shape_text(value)}: return a tensor."
            )
        if version_of(value) != version:
            raise ArgumentError(
                f"transform= modified the output of layer {layer!r} in place, and so changed what the model "
                "computes. Return a new tensor instead, such as x.relu() for x.relu_()."
            )
        return made

    def _move(self, layer: str, value: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Return the value on the requested device and in the requested dtype; from CUDA to the CPU without waiting."""
        device = self._keeping.device or value.device
        if value.device.type != "cuda" or device.type != "cpu" or not holds_own_memory(value):
            return self._convert(layer, value, device), None
        dtype = self._choose_dtype(layer, value)
        pinned = torch.empty(value.shape, dtype=dtype, device="cpu", pin_memory=True)
        pinned.copy_(value.to(dtype), non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(value.device))
        return pinned, ready

    def _convert(self, layer: str, value: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the value on a device and in the requested dtype; the tensor itself if it needs no conversion.

        Raises:
            UnsupportedOutputError: torch cannot convert such a tensor, or the dtype would lose a part of it.
        """
        dtype = self._choose_dtype(layer, value)
        if (device, dtype) == (value.device, value.dtype):
            return value
        if value.is_meta or not holds_own_memory(value):
            return _convert_unusual(layer, value, device, dtype)
        return value.to(device, dtype)

    def _choose_dtype(self, layer: str, value: torch.Tensor) -> torch.dtype:
        """Return the dtype in which a value is kept.

        Raises:
            UnsupportedOutputError: the value is complex and the requested dtype is real.
        """
        dtype = self._keeping.dtype or value.dtype
        if value.is_complex() and not dtype.is_complex:
            raise UnsupportedOutputError(
                f"Layer {layer!r} returned {value.dtype}, and dtype={dtype} would drop the imaginary part: pass a "
                "complex dtype, or choose a part with transform=, such as transform=lambda output: output.abs()."
            )
        return dtype


def _convert_unusual(layer: str, value: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return a sparse, quantized, nested, meta or subclass tensor on a device and in a dtype.

    mkldnn tensors become dense, and so do quantized ones in another dtype, since torch converts neither.

    Raises:
        UnsupportedOutputError: torch cannot convert the tensor.
    """
    if value.is_meta and device.type != "meta":
        raise UnsupportedOutputError(why_unreadable(layer, value))
    try:
        if value.is_mkldnn or (value.is_quantized and dtype is not value.dtype):
            value = dense_values(layer, value)
        return value.to(device, dtype)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedOutputError(
            f"The output of layer {layer!r}, a {value.layout} {type(value).__name__} of {value.dtype}, cannot be kept "
            f"as {dtype} on {str(device)!r}: {error}. Convert it to a plain tensor with transform=."
        ) from error


def _is_part(value: torch.Tensor) -> bool:
    """Return whether sharing a tensor would hold more memory than a copy of it takes."""
    return value.untyped_storage().nbytes() > count_bytes(value)


def _may_share_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors may share memory; True where torch does not expose their memory."""
    if not (holds_own_memory(one) and holds_own_memory(other)):
        return True
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
