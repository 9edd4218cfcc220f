"""Trace what is computed from a layer's output and from the value of its nonlinearity; where both meet is a gate.

`y * sigmoid(y)` is one activation, and `sigmoid(y)` half of it. The other half may take a detour: through other
functions, views, another nonlinearity. So for each tensor that was computed from an output it is known in which ways.
The output of a layer with weights (a convolution, a matrix product) is not traced back to its input.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch

OWN = 1  # from the output, without a nonlinearity
OTHER = 2  # from the output, through a nonlinearity whose input was not the output itself, as in relu(-y)
ACTIVATED = 4  # from the value of the nonlinearity whose input was the output

Source = TypeVar("Source")
Origins = dict[Source, int]  # for each source, in which ways a tensor comes from it

LAYERS = frozenset(
    {
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution"),
        *("linear", "bilinear", "embedding", "embedding_bag", "einsum", "tensordot", "chain_matmul"),
        *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "addmv", "baddbmm", "addbmm"),
        *("scaled_dot_product_attention", "multi_head_attention_forward"),
        *("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    }
)
# These read the shape, dtype or device of their arguments, and no values; those of `_SHAPED` read the first's values.
_VALUELESS = frozenset(
    {
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like"),
        *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "new_empty_strided"),
    }
)
_SHAPED = frozenset({"view_as", "expand_as", "reshape_as", "type_as", "to"})
_OVERWRITES = frozenset({"copy_"})  # what the first argument held is gone


class Descent(Generic[Source]):
    """The origins of all tensors that were computed from the sources."""

    def __init__(self, nonlinearities: frozenset[Callable[..., Any]]) -> None:
        self._nonlinearities = nonlinearities
        self._origins: dict[int, tuple[weakref.ref[torch.Tensor], Origins[Source]]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return not self._origins

    def add(self, tensor: torch.Tensor, origins: Origins[Source]) -> None:
        """Add origins of a tensor; those of sources that it already has are replaced."""
        self._set(tensor, {**self._origins_of(tensor), **origins})

    def clear(self) -> None:
        """Forget everything."""
        self._origins.clear()

    def origins_of_arguments(self, name: str, tensors: list[torch.Tensor]) -> list[Origins[Source]]:
        """Return the origins of each argument whose values a function of this name reads; those without are skipped."""
        if name in _VALUELESS:
            return []
        if name in _SHAPED:
            tensors = tensors[:1]
        elif name in _OVERWRITES:
            tensors = tensors[1:]
        return [origins for tensor in tensors if (origins := self._origins_of(tensor))]

    def propagate(
        self, func: Callable[..., Any], name: str, origins: list[Origins[Source]], changed: list[torch.Tensor]
    ) -> None:
        """Set the origins of the tensors that a function returned, or modified in place."""
        passed: Origins[Source] = {}
        if origins and name not in LAYERS:
            passed = dict(origins[0])
            for one in origins[1:]:
                for source, ways in one.items():
                    passed[source] = passed.get(source, 0) | ways
            if func in self._nonlinearities:
                passed = {source: (ways & ~OWN) | (OTHER if ways & OWN else 0) for source, ways in passed.items()}
        for tensor in changed:
            if passed or id(tensor) in self._origins:
                self._set(tensor, passed)

    def has_own(self, source: Source) -> bool:
        """Return whether there still are tensors that come from a source other than through its nonlinearity."""
        return any(
            origins.get(source, 0) & (OWN | OTHER) and reference() is not None
            for reference, origins in self._origins.values()
        )

    def _origins_of(self, tensor: torch.Tensor) -> Origins[Source]:
        reference, origins = self._origins.get(id(tensor), (None, {}))
        return origins if reference is not None and reference() is tensor else {}

    def _set(self, tensor: torch.Tensor, origins: Origins[Source]) -> None:
        self._origins[id(tensor)] = (weakref.ref(tensor), origins)


def find_gates(origins: list[Origins[Source]]) -> Iterator[Source]:
    """Yield the sources for which a function takes both halves of a gate; `origins` are those of its arguments."""
    if len(origins) < 2:
        return
    for number, one in enumerate(origins):
        for source, ways in one.items():
            others = origins[:number] + origins[number + 1 :]
            if ways & ACTIVATED and any(other.get(source, 0) & (OWN | OTHER) for other in others):
                yield source


def collect_tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """Return the tensors in arguments or results, each once, in order."""
    found: dict[int, torch.Tensor] = {}
    for value in values:
        if isinstance(value, (torch.Tensor, tuple, list, dict)):
            _collect(value, found)
    return list(found.values())


def _collect(value: Any, found: dict[int, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        while _is_in_functorch(value):
            value = _unwrap(value)
        found.setdefault(id(value), value)
    elif isinstance(value, (tuple, list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            _collect(one, found)


# Private names of torch: inside `vmap` and other transforms a function gets wrappers of the tensors.
_is_in_functorch: Callable[[torch.Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
_unwrap: Callable[[torch.Tensor], torch.Tensor] = torch._C._functorch.get_unwrapped
