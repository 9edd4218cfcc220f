"""The results of operators on constants, computed when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

_DEEPEST = 40  # the longest chain of results that wait for one another


class Deferred:
    """A run of an operator on constants of the meta device, computed when its values are needed.

    Args:
        operator: one that writes nothing.
        args: its arguments.
        kwargs: its other arguments.
        free: the tensors among them of which only the shape counts, by identity.
        empty: whether the operator returns uninitialized memory: its values are then zeros.
    """

    __slots__ = ("_arguments", "_empty", "_free", "_operator", "_results", "_tensors", "depth", "done")

    def __init__(
        self, operator: OpOverload, args: Any, kwargs: dict[str, Any], free: Collection[int], *, empty: bool
    ) -> None:
        self._operator, self._arguments, self._free, self._empty = operator, (args, kwargs), free, empty
        self._tensors = [(one, one.untyped_storage()._cdata) for one in tensors_among(self._arguments)]
        self._results: list[torch.Tensor] | None = None
        self.done = False
        self.depth = 1

    def waits(self, depth_of: Callable[[torch.Tensor], int]) -> bool:
        """Return whether it may be computed later: only torch can write into its arguments, and its chain is short."""
        self.depth = 1 + max((depth_of(one) for one, _ in self._tensors), default=0)
        return self.depth < _DEEPEST and all(one.is_meta for one, _ in self._tensors)

    def result(self, number: int, values_of: Callable[[torch.Tensor], torch.Tensor | None]) -> torch.Tensor | None:
        """Return one of the results; None if some values are not known, or if the operator fails."""
        if not self.done:
            self.done = True
            moved = any(one.untyped_storage()._cdata != memory for one, memory in self._tensors)  # by `.data = ...`
            made = None if moved else run_on_values(self._operator, *self._arguments, values_of, self._free)
            self._results = None if made is None else list(tensors_among(made))
            self._arguments, self._tensors = ((), {}), []
            for values in self._results or () if self._empty else ():
                values.zero_()
        return None if self._results is None else self._results[number]


def run_on_values(
    operator: OpOverload,
    args: Any,
    kwargs: dict[str, Any],
    values_of: Callable[[torch.Tensor], torch.Tensor | None],
    free: Collection[int] = (),
) -> Any:
    """Return an operator's result with the values of constants in place of them; None if some are not known."""
    taken: dict[int, torch.Tensor] = {}
    for tensor in tensors_among((args, kwargs)):
        values = _ones_like(tensor) if id(tensor) in free else values_of(tensor)
        if values is None:
            return None
        taken[id(tensor)] = values
    return run_with(operator, args, kwargs, taken)


def run_with(operator: OpOverload, args: Any, kwargs: dict[str, Any], taken: dict[int, torch.Tensor]) -> Any:
    """Return an operator's result with real tensors in place of others; None if it fails."""
    real_args, real_kwargs = tree_map(lambda leaf: taken.get(id(leaf), leaf), (args, kwargs))
    if real_kwargs.get("device") is not None:
        real_kwargs = real_kwargs | {"device": torch.device("cpu")}
    try:
        return operator(*real_args, **real_kwargs)
    except Exception:  # the CPU does not support it
        return None


def tensors_among(values: Any) -> list[torch.Tensor]:
    """Return the tensors among values, however nested."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _ones_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return ones in the shape and strides of a tensor, on the CPU."""
    ones = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
    return ones.fill_(1)
