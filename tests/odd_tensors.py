"""Kinds of tensors that a layer may return in addition to plain ones, each with its values according to numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._pytree import tree_map

IMAGES = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))


class Tagged(torch.Tensor):
    """A subclass that holds its values itself, as `tv_tensors.Image` does."""


@dataclass(frozen=True)
class Kind:
    """The functions that create a kind of tensor from (N, C, H, W), compute its values, and modify it unnoticed."""

    make: Callable[[torch.Tensor], torch.Tensor]
    values: Callable[[np.ndarray], np.ndarray] | None  # None: it has no values that can be read as one array
    spoil: Callable[[torch.Tensor], object] = lambda tensor: tensor.mul_(0)
    approximate: bool = False  # torch rounds the values differently


def _fake_quantized(values: np.ndarray, scale: Any, zero: Any, low: int, high: int) -> np.ndarray:
    """Return values rounded to steps of a scale."""
    steps = np.clip(np.rint(values / np.float32(scale)) + zero, low, high)
    return ((steps - zero) * np.float32(scale)).astype(np.float32)


_SCALES, _ZEROS = [0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3]


def _by_channel(values: np.ndarray) -> np.ndarray:
    parts = zip(np.moveaxis(values, 1, 0), _SCALES, _ZEROS, strict=True)
    return np.stack([_fake_quantized(part, scale, zero, -128, 127) for part, scale, zero in parts], axis=1)


def _uncoalesced(x: torch.Tensor) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([[0, 0, 1]]), torch.stack([x[0], x[1], x[2]]), x.shape)


def _uncoalesced_values(x: np.ndarray) -> np.ndarray:
    return np.stack([x[0] + x[1], x[2], 0 * x[0]])


def _through(dtype: torch.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that rounds values to a dtype that numpy lacks, by torch's own conversion."""
    return lambda x: torch.from_numpy(x).to(dtype).float().numpy()


def _complex(x: np.ndarray) -> np.ndarray:
    return (x + 1j * (2 * x + 1)).astype(np.complex64)


def _rectified(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _float8(dtype: torch.dtype) -> Kind:
    return Kind(lambda x: x.to(dtype), _through(dtype), spoil=lambda tensor: tensor.copy_(torch.ones(tensor.shape)))


def _integer(name: str) -> Kind:
    return Kind(
        lambda x: (300 * x.abs()).to(getattr(torch, name)),
        lambda x: (300 * np.abs(x)).astype(name),
        spoil=lambda tensor: tensor.zero_(),
    )


FLOAT8 = [getattr(torch, name) for name in dir(torch) if name.startswith("float8_")]
KINDS = {
    "plain": Kind(lambda x: x.clone(), lambda x: x),
    "conjugate": Kind(lambda x: torch.complex(x, 2 * x + 1).conj(), lambda x: _complex(x).conj()),
    "negative": Kind(lambda x: torch.complex(x, 2 * x + 1).conj().imag, lambda x: -(2 * x + 1)),
    "zero tensor": Kind(lambda x: torch._efficientzerotensor(x.shape), lambda x: 0 * x, spoil=lambda tensor: None),
    "complex64": Kind(lambda x: torch.complex(x, 2 * x + 1), _complex),
    "complex32": Kind(
        lambda x: torch.complex(x.half(), x.half()),
        lambda x: x.astype(np.float16).astype(np.float32) * np.complex64(1 + 1j),
        spoil=lambda tensor: tensor.zero_(),
    ),
    "quantized": Kind(
        lambda x: torch.quantize_per_tensor(x, 0.1, 3, torch.qint8),
        lambda x: _fake_quantized(x, 0.1, 3, -128, 127),
        spoil=lambda tensor: tensor.copy_(torch.zeros(tensor.shape)),
        approximate=True,
    ),
    "quantized unsigned": Kind(
        lambda x: torch.quantize_per_tensor(x, 0.1, 100, torch.quint8),
        lambda x: _fake_quantized(x, 0.1, 100, 0, 255),
        spoil=lambda tensor: tensor.copy_(torch.zeros(tensor.shape)),
        approximate=True,
    ),
    "quantized by channel": Kind(
        lambda x: torch.quantize_per_channel(x, torch.tensor(_SCALES), torch.tensor(_ZEROS), 1, torch.qint8),
        _by_channel,
        spoil=lambda tensor: None,
        approximate=True,
    ),
    "COO": Kind(lambda x: x.relu().to_sparse(), _rectified, spoil=lambda tensor: tensor._values().mul_(0)),
    "COO, uncoalesced": Kind(_uncoalesced, _uncoalesced_values, spoil=lambda tensor: tensor._values().mul_(0)),
    "COO, hybrid": Kind(lambda x: x.relu().to_sparse(2), _rectified, spoil=lambda tensor: tensor._values().mul_(0)),
    "COO of booleans": Kind(lambda x: (x > 0).to_sparse(), lambda x: x > 0, lambda tensor: tensor._values().zero_()),
    "CSR": Kind(
        lambda x: x[0, 0].relu().to_sparse_csr(),
        lambda x: _rectified(x[0, 0]),
        spoil=lambda tensor: tensor.values().mul_(0),
    ),
    "CSR, batched": Kind(
        lambda x: (x[:, 0].abs() + 1).to_sparse_csr(),
        lambda x: np.abs(x[:, 0]) + 1,
        spoil=lambda tensor: tensor.values().mul_(0),
    ),
    "CSC": Kind(
        lambda x: x[0, 0].relu().to_sparse_csc(),
        lambda x: _rectified(x[0, 0]),
        spoil=lambda tensor: tensor.values().mul_(0),
    ),
    "BSR": Kind(
        lambda x: x[0, 0, :4].to_sparse_bsr((2, 2)),
        lambda x: x[0, 0, :4],
        spoil=lambda tensor: tensor.values().mul_(0),
    ),
    "mkldnn": Kind(lambda x: x.to_mkldnn(), lambda x: x, spoil=lambda tensor: tensor.relu_()),
    **{str(dtype)[6:]: _float8(dtype) for dtype in FLOAT8},
    "float16": Kind(lambda x: x.half(), lambda x: x.astype(np.float16)),
    "bfloat16": Kind(lambda x: x.bfloat16(), _through(torch.bfloat16)),
    "float64": Kind(lambda x: x.double(), lambda x: x.astype(np.float64)),
    "bool": Kind(lambda x: x > 0, lambda x: x > 0, spoil=lambda tensor: tensor.zero_()),
    "int8": Kind(lambda x: (30 * x).to(torch.int8), lambda x: (30 * x).astype(np.int8)),
    "uint8": Kind(lambda x: (30 * x.abs()).to(torch.uint8), lambda x: (30 * np.abs(x)).astype(np.uint8)),
    **{name: _integer(name) for name in ("uint16", "uint32", "uint64", "int64")},
    "subclass": Kind(lambda x: x.clone().as_subclass(Tagged), lambda x: x),
    "parameter": Kind(lambda x: nn.Parameter(x.clone()), lambda x: x, spoil=lambda tensor: tensor.data.mul_(1)),
    "expanded": Kind(lambda x: x[:1].expand(3, 4, 5, 6), lambda x: np.repeat(x[:1], 3, axis=0), lambda tensor: None),
    "overlapping": Kind(
        lambda x: x.clone().as_strided((3, 4, 5, 6), (10, 5, 2, 1)),
        lambda x: np.lib.stride_tricks.as_strided(x, (3, 4, 5, 6), (40, 20, 8, 4)).copy(),
        spoil=lambda tensor: None,
    ),
    "transposed": Kind(lambda x: x.clone().transpose(2, 3), lambda x: x.swapaxes(2, 3)),
    "channels last in memory": Kind(lambda x: x.clone(memory_format=torch.channels_last), lambda x: x),
    "no units": Kind(lambda x: x[:, :, :0], lambda x: x[:, :, :0]),
    "no channels": Kind(lambda x: x[:, :0], lambda x: x[:, :0]),
    "no samples": Kind(lambda x: x[:0], lambda x: x[:0]),
    "of no axis": Kind(lambda x: x[0, 0, 0, 0].clone(), lambda x: x[0, 0, 0, 0]),
    "of one axis": Kind(lambda x: x[:, 0, 0, 0].clone(), lambda x: x[:, 0, 0, 0]),
    "of two axes": Kind(lambda x: x[:, :, 0, 0].clone(), lambda x: x[:, :, 0, 0]),
    "meta": Kind(lambda x: x.to("meta"), None),
    "nested": Kind(lambda x: torch.nested.nested_tensor([x[0], x[1, :, :3]]), None),
    "jagged": Kind(lambda x: torch.nested.nested_tensor([x[0, 0], x[1, 0, :3]], layout=torch.jagged), None),
    "wrapper subclass": Kind(lambda x: TwoTensor(x.clone(), x.clone()), None, spoil=lambda tensor: tensor.a.mul_(0)),
}


class Wrapper(torch.Tensor):
    """A minimal wrapper subclass, which torch cannot take apart, and which has no gradients."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> Wrapper:
        made = torch.Tensor._make_wrapper_subclass(cls, inside.shape, dtype=inside.dtype, device=inside.device)
        made.inside = inside
        return made

    def __repr__(self) -> str:
        return f"Wrapper({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        args, kwargs = tree_map(lambda one: one.inside if isinstance(one, cls) else one, (args, kwargs or {}))
        return tree_map(lambda one: cls(one) if isinstance(one, torch.Tensor) else one, function(*args, **kwargs))


class Wrap(torch.autograd.Function):
    """A function that wraps a tensor in a `Wrapper` that is part of the graph."""

    @staticmethod
    def forward(context, x):
        return Wrapper(x)

    @staticmethod
    def backward(context, gradient):
        return gradient.inside if isinstance(gradient, Wrapper) else gradient


class Odd(nn.Module):
    """A layer that returns one kind of tensor."""

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.make(x)


class Model(nn.Module):
    """A model with one odd layer, whose output it may modify after using it."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.odd = Odd(kind.make)
        self.spoil: Callable[[torch.Tensor], object] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        returned = self.odd(x * 1)
        if self.spoil is not None:
            self.spoil(returned)
        return returned


def plain_twin(kind: Kind) -> Model:
    """A model whose layer returns the same values as a plain dense tensor, in a dtype that torch computes with."""

    def make(x: torch.Tensor) -> torch.Tensor:
        made = np.ascontiguousarray(kind.values(x.detach().contiguous().numpy()))
        return torch.from_numpy(made.astype(np.float64) if made.dtype.kind in "biu" else made)

    return Model(Kind(make, None))
