"""Make gradients reach layers' outputs, and collect them there: what `gradients=True` adds to a recorder."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_leaves

from spatialprobe.activations.frozen import alias_inputs, begin_graph, lasting_memory, memory_of, why_no_beginning
from spatialprobe.activations.gradient import Gradient, require_gradients
from spatialprobe.activations.leaves import exchange, source_of, tensors_in
from spatialprobe.activations.memory import root_of
from spatialprobe.activations.recompute import Replay, checkpoint_inputs
from spatialprobe.activations.watch import AT_ONCE, Watch
from spatialprobe.errors import UnsupportedOutputError

Pick = Callable[[Any], Any]


class Reached:
    """A layer's output that a gradient reaches.

    Args:
        output: the output that the layer is to return.
        value: the value that is recorded.
        source: the tensor in the output that the value is, or of which it is a part.
    """

    __slots__ = ("output", "source", "value")

    def __init__(self, output: Any, value: torch.Tensor, source: torch.Tensor) -> None:
        self.output = output
        self.value = value
        self.source = source

    def exchange(self, new: torch.Tensor, pick: Pick | None) -> None:
        """Replace the source by another tensor in the layer's output."""
        self.output = exchange(self.output, self.source, new)
        self.value = new if self.value is self.source else _apply_pick(pick, self.output)
        self.source = new


class Graphs:
    """The graphs of one forward pass of a model, or of layers that are called outside of one (`by_hand`)."""

    __slots__ = ("_aliases", "_by_hand", "_lasting", "_model", "_pick", "_replay", "_taken", "_unaliased", "_watches")

    def __init__(self, model: nn.Module, pick: Pick | None, replay: Replay, *, by_hand: bool) -> None:
        self._model = model
        self._pick = pick
        self._replay = replay
        self._by_hand = by_hand
        self._taken: dict[str, list[tuple[weakref.ref[torch.Tensor], int]]] = {}  # by layers, with version counters
        self._unaliased: list[Any] = []  # inputs that are passed to the model as they are
        self._lasting: set[int] | None = None
        self._aliases: list[weakref.ref[torch.Tensor]] = []  # start a graph; the tensors they alias are in none
        self._watches: list[Watch] = []

    def take_inputs(self, inputs: Any) -> Any:
        """Return aliases of the model's inputs, with the same values in the same memory (see `frozen`)."""
        if not torch.is_grad_enabled():
            return inputs
        aliased = alias_inputs(inputs)
        pairs = zip(tree_leaves(inputs), tree_leaves(aliased), strict=True)
        self._unaliased = [leaf for leaf, alias in pairs if leaf is alias]
        return aliased

    def note_inputs(self, layer: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the input tensors of a layer, with their version counters."""
        tensors = args
        if kwargs or not all(isinstance(value, torch.Tensor) for value in args):  # else the fast way
            tensors = tuple(tensors_in((args, kwargs), depth=1))
        self._taken[layer] = [(weakref.ref(tensor), tensor._version) for tensor in tensors if not tensor.is_inference()]

    def reach(self, layer: str, output: Any, value: torch.Tensor, args: tuple[Any, ...]) -> Reached:
        """Return a layer's output as one that a gradient reaches in a backward pass.

        Raises:
            ProbeStateError, UnsupportedOutputError: the output cannot have a gradient.
        """
        require_gradients(layer, value)
        if self._by_hand:
            self.settle(over=False)  # there is no end of a forward pass that would do it
        reached = Reached(output, value, _find_source(layer, output, value, self._pick))
        if not reached.source.requires_grad:
            self._begin(layer, reached, args)
        if reached.source.is_leaf or self._is_input(layer, reached.source):
            reached.exchange(_view_of_input(reached.source), self._pick)
        return reached

    def watch(self, gradient: Gradient, value: torch.Tensor, source: torch.Tensor) -> None:
        """Collect the gradient of a value, which is `source`, a tensor of the output, or a part of it."""
        is_alias = any(alias() is root_of(source) for alias in self._aliases)
        if value is source and not (is_alias or source._is_view()):
            source.register_hook(gradient.add)  # type: ignore[no-untyped-call]
        else:
            self._watches.append(Watch(gradient, value, source, is_alias=is_alias, hold=not self._by_hand))

    def settle(self, *, over: bool) -> None:
        """Follow gradients through the in-place operations so far; with `over`, the pass has ended."""
        self._watches = [watch for watch in self._watches if not watch.settle()]
        if over:
            for watch in self._watches:
                watch.release()
            self._watches = []

    def _begin(self, layer: str, reached: Reached, args: tuple[Any, ...]) -> None:
        """Start a graph at an output that requires no gradient, now and when a checkpoint recomputes it.

        Raises:
            UnsupportedOutputError: torch cannot start one at a tensor of this kind.
        """
        kind = why_no_beginning(reached.source)
        if kind is not None:
            raise UnsupportedOutputError(
                f"Layer {layer!r} returned {kind}, which requires no gradient, and at which no graph can start: let "
                "the tensors it is computed from require gradients (images.requires_grad_(), or weights that are not "
                "frozen), or choose a layer that returns a plain tensor."
            )
        if self._lasting is None or self._by_hand:
            self._lasting = lasting_memory(self._model, [self._unaliased, args if self._by_hand else ()])
        self._replay.join(layer)
        begun = begin_graph(reached.source, self._lasting | memory_of(checkpoint_inputs()))
        if begun is not reached.source:
            self._aliases = [alias for alias in self._aliases if alias() is not None] + [weakref.ref(begun)]
            reached.exchange(begun, self._pick)
        elif reached.value is not begun:
            reached.value = _apply_pick(self._pick, reached.output)  # the one picked before is in no graph

    def _is_input(self, layer: str, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is an input of a layer that the layer did not modify in place."""
        return any(ref() is tensor and tensor._version == version for ref, version in self._taken.get(layer, ()))


def origin_of(source: torch.Tensor) -> GradientEdge:
    """Return where a backward pass must come so that it brings the whole gradient of what is watched in this tensor.

    Of a view that is the tensor of which it is one, since writes in place lead past the view itself.
    """
    root = root_of(source)
    return get_gradient_edge(root if root.requires_grad else source)


def begin_graph_again(
    model: nn.Module, pick: Pick | None, replay: Replay, layer: str, module: nn.Module, args: Any, output: Any
) -> Any:
    """Start a graph where one was started in the forward pass; a forward hook for recomputation, records nothing."""
    if not (replay.is_repeated and torch.is_grad_enabled()):
        return None
    source = _find_source(layer, output, _apply_pick(pick, output), pick)
    if source.requires_grad:
        return None
    begun = begin_graph(source, lasting_memory(model, [checkpoint_inputs()]))
    return None if begun is source else exchange(output, source, begun)


def _view_of_input(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of a whole tensor, which gets only the gradient of what is computed from the view.

    It replaces the output of a layer that returns one of its inputs: the gradient of the input itself also includes
    what others compute from it, and a hook on a leaf would outlive the pass and see the gradients of others.
    """
    view = tensor.view_as(tensor)
    if view.grad_fn is not None and hasattr(view.grad_fn, "_set_sequence_nr"):
        view.grad_fn._set_sequence_nr(AT_ONCE)  # so that gradients of the tensor add up in the order they would without
    return view


def _find_source(layer: str, output: Any, value: torch.Tensor, pick: Pick | None) -> torch.Tensor:
    """Return the tensor of the output that `value` is, or of which it is a part.

    Raises:
        UnsupportedOutputError: there is none, since `pick` computed a new tensor.
    """
    source = value if output is value else source_of(value, output)
    again: object = None if pick is None else pick(output)
    if source is None and again is value:
        return value  # in an object that only this function can look into
    if source is None:
        raise UnsupportedOutputError(
            f"pick= returned a new tensor {tuple(value.shape)} for layer {layer!r}, which the model does not use, so "
            "that it has no gradient. Pick a tensor of the output, or a view of one such as out[0][:, 1:], and "
            "compute with it in transform=."
        )
    return source


def _apply_pick(pick: Pick | None, output: Any) -> torch.Tensor:
    picked: torch.Tensor = output if pick is None else pick(output)
    return picked
