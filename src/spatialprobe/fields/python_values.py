"""What passes between tensors and Python, which no operator shows: values that are read, lists that become tensors."""

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
_READING_ARGUMENTS = {  # composite operators that look into memory before any operator runs
    torch.tensor_split: slice(1, 2),
    torch.Tensor.tensor_split: slice(1, 2),
    torch.ctc_loss: slice(2, 4),
    torch.nn.functional.ctc_loss: slice(2, 4),
}


class PythonWatch(TorchFunctionMode):
    """Notes what passes between tensors and Python while a model is followed.

    On a real device: values that depend on the input leave torch. On the meta device: tensors made of Python's numbers
    have values, which are noted.
    """

    def __init__(self, follower: IntervalMode, *, meta: bool) -> None:
        super().__init__()
        self._follower = follower
        self._call = self._known if meta else self._watched

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function as it is."""
        return self._call(func, args, kwargs or {})

    def _watched(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function on a real device."""
        follower, name = self._follower, getattr(func, "__name__", "a function")
        if follower.within_torch:  # this library looks, or another function of torch
            return func(*args, **kwargs)
        if func in _READING:
            follower.expose(args[0], name)
        elif func in _MAKING or func in _INDEXING:
            follower.note_read(_nested((args, kwargs)), name)
        elif func in _READING_ARGUMENTS:
            given = [*args[_READING_ARGUMENTS[func]], *kwargs.values()]
            follower.note_read([one for one in given if isinstance(one, torch.Tensor)], name)
        follower.within_torch += 1
        try:
            return func(*args, **kwargs)
        finally:
            follower.within_torch -= 1

    def _known(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function on the meta device."""
        if func in _INDEXING and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return func(args[0], _with_values(args[1]), *args[2:], **kwargs)
        result = func(*args, **kwargs)
        if func in _MAKING and isinstance(result, torch.Tensor) and result.is_meta:
            data = args[-1] if args else kwargs.get("data", kwargs.get("obj"))
            if not isinstance(data, torch.Tensor) and not (
                func is torch.Tensor.new and isinstance(data, (int, torch.Size))
            ):
                values = torch.tensor(data, dtype=result.dtype, device="cpu")
                if values.shape == result.shape:
                    self._follower.constants.know(result, values, owned=True)
        return result


def _nested(values: Any) -> Iterator[torch.Tensor]:
    """The tensors within lists, of which torch reads the numbers; those that are arguments themselves it does not."""
    for value in values:
        if isinstance(value, dict):
            yield from _nested(value.values())
        elif isinstance(value, tuple):
            yield from _nested(value)
        elif isinstance(value, list):
            yield from _within(value)


def _within(values: list[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _within(list(value))


def _with_values(key: Any) -> Any:
    """A key of an index with tensors in place of sequences of numbers, as torch makes of them itself."""
    if isinstance(key, tuple):
        return tuple(_as_index(part) for part in key)
    return _as_index(key)


def _as_index(part: Any) -> Any:
    if not isinstance(part, (list, tuple, range)) or not _is_numbers(part):
        return part
    return torch.tensor(part, device="cpu") if len(part) else torch.empty(0, dtype=torch.long, device="cpu")


def _is_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple, range)):
        return all(_is_numbers(one) for one in value)
    return isinstance(value, Number)
