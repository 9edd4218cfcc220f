"""Read tensors of any layout, dtype or subclass as plain dense values, or explain why they cannot be read.

A layer may return a conjugate or negative view, a quantized, sparse, mkldnn, float8 or nested tensor, or a subclass.
All code that reads such values (numpy, pictures, files, statistics, measures) uses these functions, so that all agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch

from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.text import kind_of

_STRIDED = torch.strided
# Private names of torch, since there are no public ones; where a release lacks them, torch itself raises an error.
_is_wrapped: Callable[[torch.Tensor], bool] = getattr(
    torch._C._functorch, "is_functorch_wrapped_tensor", lambda tensor: False
)
_is_legacy_batched: Callable[[torch.Tensor], bool] = getattr(
    torch._C._functorch, "is_legacy_batchedtensor", lambda tensor: False
)
_is_functional: Callable[[torch.Tensor], bool] = getattr(torch, "_is_functional_tensor", lambda tensor: False)
_NO_DISPATCH = torch.Tensor.__torch_dispatch__  # of tensors that are not wrapper subclasses
_FLOAT8 = [getattr(torch, name) for name in dir(torch) if name.startswith("float8_")]
_NOT_IN_NUMPY = {
    **dict.fromkeys([torch.bfloat16, *_FLOAT8], torch.float32),
    torch.complex32: torch.complex64,
}
_NOT_IN_TORCH = {  # dtypes for which torch implements few operators
    **dict.fromkeys(_FLOAT8, torch.float32),
    torch.complex32: torch.complex64,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.float64,
}
_PARTS = {  # the methods that return the components of a tensor of such a layout
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_coo: ("_indices", "_values"),
    torch.jagged: ("offsets", "values"),
}


def is_batched(value: torch.Tensor) -> bool:
    """Return whether a tensor is a wrapper of functorch, such as a batched tensor under `vmap`, without own values."""
    return _is_wrapped(value) or _is_legacy_batched(value) or _is_functional(value)


def holds_own_memory(value: torch.Tensor) -> bool:
    """Return whether a tensor's values lie in one storage, whose version counter counts every in-place write.

    The values of sparse, mkldnn and nested tensors and of wrapper subclasses lie in tensors inside them.
    """
    return (
        value.layout is _STRIDED
        and type(value).__torch_dispatch__ is _NO_DISPATCH
        and not (value.is_quantized or value.is_nested or value._is_zerotensor())
    )


def empty_on_meta(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the meta device that is like another.

    For this `torch.empty_like` runs a reference in Python, which takes as long as a convolution of such tensors.

    >>> weight = torch.rand(8, 3, 5, 5).to(memory_format=torch.channels_last)
    >>> empty_on_meta(weight).stride() == weight.stride(), empty_on_meta(weight.to_sparse()).layout
    (True, torch.sparse_coo)
    """
    if holds_own_memory(value) and value.is_contiguous():
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    return torch.empty_like(value, device="meta")


def parts_of(value: torch.Tensor) -> list[torch.Tensor]:
    """Return the plain dense tensors that make up a tensor; for a plain dense tensor, only itself.

    The parts of a sparse tensor are its values and indices, those of a quantized one its integers and its dequantized
    values. A tensor on the meta device has none.

    Raises:
        UnsupportedOutputError: it is a subclass that torch cannot flatten.
    """
    if value.is_meta:
        return []
    if value.layout in _PARTS:
        return [part for name in _PARTS[value.layout] for part in parts_of(getattr(value, name)())]
    if value.is_nested:
        return [part for one in value.unbind() for part in parts_of(one)]
    if type(value).__torch_dispatch__ is not _NO_DISPATCH and hasattr(value, "__tensor_flatten__"):
        names, _ = value.__tensor_flatten__()
        return [part for name in names for part in parts_of(getattr(value, name))]
    if value.is_quantized:
        return [value.int_repr(), value.dequantize()]
    return [dense_values(None, value.detach())]


def count_bytes(value: torch.Tensor) -> int:
    """Return the size of a tensor's values in bytes, including the indices of a sparse or nested one.

    >>> count_bytes(torch.zeros(2, 3)), count_bytes(torch.eye(100).to_sparse())
    (24, 2000)
    """
    if value.layout in _PARTS:
        return sum(count_bytes(getattr(value, name)()) for name in _PARTS[value.layout])
    if type(value).__torch_dispatch__ is not _NO_DISPATCH and hasattr(value, "__tensor_flatten__"):
        names, _ = value.__tensor_flatten__()
        return sum(count_bytes(getattr(value, name)) for name in names)
    return value.numel() * value.element_size()


def shape_text(value: torch.Tensor) -> str:
    """Return the shape of a tensor as text for tables and messages, also of a nested one, which has no single shape.

    >>> shape_text(torch.zeros(2, 3))
    '(2, 3)'
    """
    return f"({value.size(0)}, of several shapes)" if value.is_nested else str(tuple(value.shape))


def why_unreadable(layer: str | None, value: torch.Tensor) -> str | None:
    """Return why the values of a layer's output cannot be read as one array, and what to do; None if they can.

    The layer is None for a tensor that the user passed.
    """
    subject = "This is" if layer is None else f"Layer {layer!r} returned"
    if value.is_nested:
        return (
            f"{subject} a nested tensor, whose parts differ in size, so that it has no single shape and no "
            "array of values: read the parts, record.tensor.unbind(), or keep a padded tensor with "
            "transform=lambda output: torch.nested.to_padded_tensor(output, 0.0)."
        )
    if value.is_meta:
        return f"{subject} a tensor on the meta device, where tensors have no values: run the model on a real device."
    if type(value).__torch_dispatch__ is not _NO_DISPATCH:
        return (
            f"{subject} {kind_of(value)}, a subclass of torch.Tensor whose values are not in its own "
            "memory: keep a plain tensor with transform=, such as transform=lambda output: "
            "output.full_tensor() for a DTensor."
        )
    return None


def dense_values(layer: str | None, value: torch.Tensor) -> torch.Tensor:
    """Return the values of a layer's output as a plain dense tensor on the same device; the tensor itself if it is one.

    A quantized tensor is dequantized to float32, a sparse one becomes dense.

    Raises:
        UnsupportedOutputError: it has no values (meta), no single shape (nested), or is a wrapper subclass.
    """
    reason = why_unreadable(layer, value)
    if reason is not None:
        raise UnsupportedOutputError(reason)
    if type(value) is not torch.Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            value = value.as_subclass(torch.Tensor)
    if value.is_quantized:
        return value.dequantize()
    if value.layout is not torch.strided:
        value = value.to_dense()
    if value._is_zerotensor():
        return torch.zeros(value.shape, dtype=value.dtype, device=value.device)
    return value.resolve_conj().resolve_neg()


def computable_values(layer: str | None, value: torch.Tensor) -> torch.Tensor:
    """Return the values of a layer's output as a dense tensor of a dtype that torch can compute with.

    float8 becomes float32, complex32 complex64, and unsigned integers of 16 and more bits a larger dtype.

    Raises:
        UnsupportedOutputError: as `dense_values`.
    """
    return widen(dense_values(layer, value))


def real_values(layer: str, value: torch.Tensor) -> torch.Tensor:
    """Return the same as `computable_values`, for a layer whose output is real.

    Raises:
        UnsupportedOutputError: the output is complex; or as `dense_values`.
    """
    if value.is_complex():
        raise UnsupportedOutputError(
            f"Layer {layer!r} returned complex values ({value.dtype}), and real ones are required: let the model "
            "compute their abs(), angle(), real or imag in a layer of its own, and choose that layer."
        )
    return computable_values(layer, value)


def widen(value: torch.Tensor) -> torch.Tensor:
    """Return a dense tensor in a dtype that torch can compute with, without loss; the tensor itself for most dtypes."""
    wider = _NOT_IN_TORCH.get(value.dtype)
    return value if wider is None else value.to(wider)


def numpy_values(layer: str, value: torch.Tensor) -> npt.NDArray[Any]:
    """Return the values of a layer's output as a numpy array, which may share its memory.

    bfloat16 and float8, which numpy lacks, become float32, and complex32 complex64, without loss.

    Raises:
        UnsupportedOutputError: numpy has no such dtype; or as `dense_values`.
    """
    plain = dense_values(layer, value.detach()).cpu()
    try:
        return plain.to(_NOT_IN_NUMPY.get(plain.dtype, plain.dtype)).numpy()
    except (TypeError, RuntimeError) as error:
        raise UnsupportedOutputError(
            f"Layer {layer!r} returned {plain.dtype}, for which numpy has no dtype: keep another dtype with transform= "
            "or dtype=."
        ) from error
