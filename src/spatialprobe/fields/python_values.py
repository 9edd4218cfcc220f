"""Values that pass between tensors and Python without an operator: values that are read, lists that become tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Number
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from spatialprobe.fields.dispatch import IntervalMode

_READING = frozenset(
    {
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        torch.Tensor.__array__,
        torch.Tensor.__dlpack__,
        torch.Tensor.__repr__,
        torch.Tensor.__format__,
        torch.Tensor.data_ptr,
        torch.Tensor.storage,
        torch.Tensor.untyped_storage,
        torch.Tensor.__cuda_array_interface__.__get__,
    }
)
_MAKING = frozenset({torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor, torch.Tensor.new})
_INDEXING = frozenset({torch.Tensor.__getitem__, torch.Tensor.__setitem__})
_READING_ARGUMENTS = {  # composite operators that read memory before any operator runs
    torch.tensor_split: slice(1, 2),
    torch.Tensor.tensor_split: slice(1, 2),
    torch.ctc_loss: slice(2, 4),
    torch.nn.functional.ctc_loss: slice(2, 4),
}


class PythonWatch(TorchFunctionMode):
    """A mode that notes the values that pass between tensors and Python while a model is followed.

    On a real device it notes when values that depend on the input are read by Python. On the meta device it notes the
    values of tensors that are made from Python's numbers.
    """

    def __init__(self, follower: IntervalMode, *, meta: bool) -> None:
        super().__init__()
        self._follower = follower
        self._call = self._run_on_meta if meta else self._run_watched

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function unchanged."""
        return self._call(func, args, kwargs or {})

    def _run_watched(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function on a real device."""
        follower, name = self._follower, getattr(func, "__name__", "a function")
        if follower.within_torch:  # called by this library, or by another function of torch
            return func(*args, **kwargs)
        if func in _READING:
            follower.expose(args[0], name)
        elif func in _MAKING or func in _INDEXING:
            follower.note_read(_tensors_in_lists((args, kwargs)), name)
        elif func in _READING_ARGUMENTS:
            candidates = [*args[_READING_ARGUMENTS[func]], *kwargs.values()]
            follower.note_read([one for one in candidates if isinstance(one, torch.Tensor)], name)
        follower.within_torch += 1
        try:
            return func(*args, **kwargs)
        finally:
            follower.within_torch -= 1

    def _run_on_meta(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function on the meta device."""
        if func in _INDEXING and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return func(args[0], _convert_index(args[1]), *args[2:], **kwargs)
        result = func(*args, **kwargs)
        if func in _MAKING and isinstance(result, torch.Tensor) and result.is_meta:
            data = args[-1] if args else kwargs.get("data", kwargs.get("obj"))
            if not isinstance(data, torch.Tensor) and not (
                func is torch.Tensor.new and isinstance(data, (int, torch.Size))
            ):
                values = torch.tensor(data, dtype=result.dtype, device="cpu")
                if values.shape == result.shape:
                    self._follower.constants.note_values(result, values, owned=True)
        return result


def _tensors_in_lists(values: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors within lists, whose values torch reads; it does not read those of direct arguments."""
    for value in values:
        if isinstance(value, dict):
            yield from _tensors_in_lists(value.values())
        elif isinstance(value, tuple):
            yield from _tensors_in_lists(value)
        elif isinstance(value, list):
            yield from _tensors_within(value)


def _tensors_within(values: list[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors in a list, and in lists within it."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors_within(list(value))


def _convert_index(key: Any) -> Any:
    """Return an index with tensors in place of sequences of numbers, to which torch itself converts them."""
    if isinstance(key, tuple):
        return tuple(_convert_part(part) for part in key)
    return _convert_part(key)


def _convert_part(part: Any) -> Any:
    """Return a part of an index, as a tensor if it is a sequence of numbers."""
    if not isinstance(part, (list, tuple, range)) or not _is_numbers(part):
        return part
    return torch.tensor(part, device="cpu") if len(part) else torch.empty(0, dtype=torch.long, device="cpu")


def _is_numbers(value: Any) -> bool:
    """Return whether a value is a number, or a nested sequence of numbers."""
    if isinstance(value, (list, tuple, range)):
        return all(_is_numbers(one) for one in value)
    return isinstance(value, Number)
