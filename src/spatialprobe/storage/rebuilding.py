"""How a restricted pickle takes arrays, methods and containers apart, and how it rebuilds them."""

from __future__ import annotations

import codecs
import copyreg
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from inspect import getattr_static
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spatialprobe.errors import StorageError
from spatialprobe.text import kind_of


def describe_pickled(value: Any) -> Any:
    """Return what `__reduce_ex__` returns for an object: a name, or a callable, its arguments, state, items and pairs.

    Raises:
        StorageError: its state is set by a function.
    """
    if type(value) is torch.Tensor and value.layout is torch.sparse_coo:
        parts = value.detach()._indices(), value.detach()._values(), tuple(value.shape), value.is_coalesced()
        return _sparse_tensor, parts, None, None, None
    reduce_to = copyreg.dispatch_table.get(type(value))
    reduced: Any = reduce_to(value) if reduce_to is not None else value.__reduce_ex__(2)
    if isinstance(reduced, str):
        return reduced
    if len(reduced) > 5 and reduced[5] is not None:
        raise StorageError(f"holds {kind_of(value)}, whose state is set by a function")
    made_by, arguments, *rest = (*reduced, None, None, None)[:5]
    if made_by is copyreg._reconstructor and arguments[1:] == (object, None):  # type: ignore[attr-defined]
        made_by, arguments = copyreg.__newobj__, arguments[:1]  # type: ignore[attr-defined]
    return made_by, arguments, *rest


def fill(container: Any, items: list[Any], pairs: list[tuple[Any, Any]]) -> Any:
    """Add items and pairs to a container of another class than list or dict, such as a deque, and return it."""
    for item in items:
        container.append(item)
    for key, value in pairs:
        container[key] = value
    return container


def _reduce_array(array: npt.NDArray[Any]) -> Any:
    """Return an array as a tensor that holds a copy: torch refuses negative strides, and memory with two dtypes."""
    if array.dtype == object:
        return _array_of_objects, (array.shape, array.reshape(-1).tolist())
    try:
        return _array, (torch.from_numpy(np.array(array, order="K")),)
    except (TypeError, ValueError):  # torch lacks this dtype, or this byte order
        values = torch.frombuffer(bytearray(array.tobytes() or b"\0"), dtype=torch.uint8)
        return _array_of_bytes, (_describe_dtype(array.dtype), array.shape, values)


def _array(values: torch.Tensor) -> npt.NDArray[Any]:
    return values.numpy().copy(order="K")


def _array_of_bytes(dtype: Any, shape: tuple[int, ...], values: torch.Tensor) -> npt.NDArray[Any]:
    kind = _dtype(dtype)
    if kind.hasobject:
        raise StorageError("has bytes for an array of objects")
    return np.ndarray(shape, kind, bytearray(values.numpy().tobytes())).copy()


def _array_of_objects(shape: tuple[int, ...], values: list[Any]) -> npt.NDArray[Any]:
    made = np.empty(len(values), object)
    made[:] = values
    return made.reshape(shape)


def _scalar(values: npt.NDArray[Any]) -> Any:
    return values[()]


def _describe_dtype(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as plain values.

    Raises:
        StorageError: the values would describe another dtype.
    """
    description = np.lib.format.dtype_to_descr(dtype)
    if _dtype(description) != dtype:
        raise StorageError(f"holds an array of {dtype}, which cannot be written")
    return description


def _dtype(description: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.lib.format.descr_to_dtype(description)
    return found


def _sparse_tensor(
    indices: torch.Tensor, values: torch.Tensor, shape: tuple[int, ...], coalesced: bool
) -> torch.Tensor:
    return torch.sparse_coo_tensor(
        indices, values, shape, check_invariants=True, is_coalesced=coalesced, device=values.device
    )


def _bound_method(instance: Any, name: str) -> MethodType:
    function = getattr_static(type(instance), name)
    if not isinstance(function, FunctionType):
        raise StorageError(f"names {name}, which is not a method of {type(instance).__name__}")
    return MethodType(function, instance)


def _reduce_scalar(scalar: np.generic) -> Any:
    return _scalar, (np.asarray(scalar),)


_SCALARS = [kind for kind in set(np.sctypeDict.values()) if kind is not np.object_]
# Exact classes whose objects are reduced by these functions rather than by their own `__reduce__`.
REDUCTIONS: dict[type, Callable[[Any], Any]] = {
    np.ndarray: _reduce_array,
    MethodType: lambda method: (_bound_method, (method.__self__, method.__name__)),
    **dict.fromkeys(_SCALARS, _reduce_scalar),
    **{type(np.dtype(kind)): lambda dtype: (_dtype, (_describe_dtype(dtype),)) for kind in (*_SCALARS, object)},
}
# Functions and classes that the bytes of every restricted pickle may call.
CALLED: tuple[Callable[..., Any], ...] = (
    *(bytes, bytearray, complex, frozenset, set, range, slice),
    *(Counter, OrderedDict, defaultdict, deque),
    *(torch.Size, torch.device, torch.nn.Parameter),
    *(torch._utils._rebuild_tensor_v2, torch._utils._rebuild_tensor_v3, torch._utils._rebuild_parameter),
    codecs.encode,  # of bytes
    *(fill, _array, _array_of_bytes, _array_of_objects, _scalar, _dtype, _sparse_tensor, _bound_method),
)
# Values that they may hold in addition: the factory of a defaultdict, the dtype of a tensor.
HELD: tuple[object, ...] = (
    *(bool, int, float, str, list, dict, tuple),
    *{id(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}.values(),
)
