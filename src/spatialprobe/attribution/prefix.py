"""Forward passes that begin behind what comes before a run of a layer: that is recorded once, and returned again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spatialprobe.model.inputs import map_tensors
from spatialprobe.model.undo import Undo, as_block
from spatialprobe.tensors import holds_own_memory

_PLAIN = (type(None), bool, int, float, str)  # what outputs may hold beside tensors


@dataclass(eq=False)
class Call:
    """A run of a module that began before the run of the layer."""

    module: nn.Module
    output: Any = None  # a copy of what it returned, where that stands for the run
    stands: bool = False  # whether it does: not of what holds a run of the layer, or is not over when that begins
    inner: list[Call] = field(default_factory=list)  # the runs inside, in their order

    def visible(self) -> Iterator[Call]:
        """Yield this run and those inside, but none inside one whose output stands for it."""
        yield self
        if not self.stands:
            for call in self.inner:
                yield from call.visible()


@dataclass(frozen=True, eq=False)
class Prefix:
    """All that runs before a run of a layer; whatever returned rows for the images need not be computed again.

    What a module returned stands for its run where it returned no part of what it took, and left that as it was. The
    operations between modules are computed again, and so is what such modules do not hold.
    """

    calls: tuple[Call, ...]  # the visible ones in the order in which they begin; the layer's own run is the last

    @property
    def saves(self) -> bool:
        """Whether anything need not be computed again."""
        return any(call.stands for call in self.calls)


class OtherOrderError(Exception):
    """The modules did not run in the order in which they were recorded."""


@as_block
def record_prefix(undo: Undo, model: nn.Module, layer: nn.Module, run: int, count: int) -> list[Call]:
    """Record what begins in one forward pass before a run of the layer, until the block ends; the first is the model.

    Args:
        undo: the block's.
        model: the model.
        layer: whose run is waited for.
        run: which of its runs, counted from 0.
        count: images of the batch.
    """
    open_calls: list[Call] = [Call(model)]
    top = open_calls[0].inner
    runs_left = [run]

    def follow(module: nn.Module, compute: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if runs_left[0] < 0:  # the run of the layer has begun
            return compute(*args, **kwargs)
        call = Call(module)
        open_calls[-1].inner.append(call)
        runs_left[0] -= module is layer
        open_calls.append(call)
        taken = [(leaf, _version(leaf)) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        try:
            output = compute(*args, **kwargs)
        finally:
            open_calls.pop()
        if runs_left[0] >= 0 and not _holds(call, layer) and _stands(output, taken, count):
            call.output = map_tensors(output, lambda one: one.detach().clone())
            call.stands, call.inner = True, []
        return output

    _wrap(undo, list(model.modules()), follow)
    return top


@as_block
def replay(undo: Undo, prefix: Prefix, times: int) -> None:
    """Let recorded modules return what they returned, with its rows so many times in a row, until the block ends.

    Raises:
        OtherOrderError: within the block, where the modules run in another order.
    """
    position = [0]

    def follow(module: nn.Module, compute: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if position[0] == len(prefix.calls):
            return compute(*args, **kwargs)
        call = prefix.calls[position[0]]
        if call.module is not module:
            raise OtherOrderError
        position[0] += 1
        if not call.stands:
            return compute(*args, **kwargs)
        return map_tensors(call.output, lambda one: torch.cat([one] * times))

    _wrap(undo, list(dict.fromkeys(call.module for call in prefix.calls)), follow)


def _wrap(undo: Undo, modules: Sequence[nn.Module], follow: Callable[..., Any]) -> None:
    """Let modules run through a function, until undone."""
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):  # it runs as a whole, and has no forward in Python
            continue
        had = "forward" in module.__dict__
        undo.add(_unwrap, module, had, module.__dict__.get("forward"))
        module.__dict__["forward"] = partial(follow, module, module.forward)


def _unwrap(module: nn.Module, had: bool, forward: object) -> None:
    if had:
        module.__dict__["forward"] = forward
    else:
        module.__dict__.pop("forward", None)


def _holds(call: Call, layer: nn.Module) -> bool:
    """Return whether a run is one of the layer, or has one inside."""
    return any(one.module is layer for one in call.visible())


def _stands(output: Any, taken: Sequence[tuple[torch.Tensor, int]], count: int) -> bool:
    """Return whether an output has a row for each image, in memory of its own, and what was taken is unchanged."""
    leaves = tree_leaves(output)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors or not all(isinstance(leaf, (torch.Tensor, *_PLAIN)) for leaf in leaves):
        return False
    if not all(holds_own_memory(one) and one.ndim and len(one) == count for one in tensors):
        return False
    if not all(holds_own_memory(one) and _version(one) == version >= 0 for one, version in taken):
        return False
    memory = {one.untyped_storage().data_ptr() for one, _ in taken}
    return not any(one.untyped_storage().data_ptr() in memory for one in tensors)


def _version(tensor: torch.Tensor) -> int:
    """Return how often a tensor was modified in place, -1 where that is not counted."""
    return -1 if tensor.is_inference() else tensor._version
