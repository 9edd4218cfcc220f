"""Collect a gradient through in-place operations on the memory of a recorded value.

A tensor's hook gets the gradient of everything that was computed from the tensor. This does not hold for a view: an
in-place operation on it, or on a tensor that shares its memory, gives the base of the view a new autograd node, and
the gradient flows through that node, past the hook. So the first such operation gets a hook, too. It is found when
the forward pass has ended.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch.autograd.graph import Node

from spatialprobe.activations.gradient import Gradient
from spatialprobe.activations.memory import Place, cut_part, root_of

Edge = tuple[Node | None, int]
NO_BACKWARD = -1
AT_ONCE = 2**64 - 1  # the sequence number of nodes that run as soon as they can, whenever they were made


class Watch:
    """A watch for in-place operations on a recorded value, or on tensors that share its memory.

    Args:
        gradient: collects the gradient of the value.
        value: the recorded value.
        source: the tensor of the model that the value is, or of which it is a part; it requires a gradient.
        is_alias: whether it is an alias of tensors that are in no graph, through which its memory may be modified, too.
        hold: whether to keep the memory alive until `release`, so that no operation is missed.
    """

    __slots__ = ("_gradient", "_held", "_is_view", "_late", "_origin", "_part", "_root", "_version", "_whole")

    def __init__(
        self,
        gradient: Gradient,
        value: torch.Tensor,
        source: torch.Tensor,
        *,
        is_alias: bool = False,
        hold: bool = True,
    ) -> None:
        root = root_of(source)
        self._gradient = gradient
        self._part = Place.of(value)
        self._whole = Place.of(root)
        self._is_view = root is not source and root.grad_fn is not None  # torch forbids writing to a leaf
        self._origin: Edge = (root.grad_fn, root.output_nr)
        self._root = weakref.ref(root)
        self._held = root if hold else None
        self._version = root._version if is_alias else None
        self._late = _LateWrite(gradient, root) if self._is_view else None
        direct = _DirectHook(gradient, Place.of(source), self._part, self._late)
        source.register_hook(direct)  # type: ignore[no-untyped-call]

    def settle(self) -> bool:
        """Handle the in-place operations so far; return whether the watch is over."""
        root = self._root()
        if root is None:
            return True
        writes = _find_writes(root.grad_fn, self._origin)
        if self._version not in (None, root._version):
            self._gradient.invalidate(
                "the layer returned a tensor that requires no gradient without the probe and is used elsewhere, and "
                "its memory was modified in place. Let the model's input require gradients, or the layer return a copy."
            )
        if not writes:
            return False
        if self._late is not None:
            self._late.close()
            self._follow(writes[-1])
        return self._version is None

    def release(self) -> None:
        """Release the memory, when the forward pass is over."""
        self._held, self._origin = None, (None, 0)
        if self._late is not None and self._root() is None:
            self._late.close()  # nothing can write to it any more

    def _follow(self, write: Node) -> None:
        """Collect the gradient that flows through this in-place operation."""
        if self._part.overlaps:
            self._gradient.invalidate(
                "several elements of the output share one position in memory, which was modified in place. Let the "
                "layer return a copy."
            )
        edges = [number for number, edge in enumerate(write.next_functions) if edge == self._origin]
        write.register_hook(_WriteHook(self._gradient, self._whole, self._part, edges))
        self._late, self._is_view = None, False


class _DirectHook:
    """A tensor hook that adds the gradient of everything that was computed from the tensor itself."""

    __slots__ = ("_gradient", "_late", "_part", "_whole")

    def __init__(self, gradient: Gradient, whole: Place, part: Place, late: _LateWrite | None) -> None:
        self._gradient = gradient
        self._whole = whole
        self._part = part
        self._late = late

    def __call__(self, gradient: torch.Tensor) -> None:
        if self._late is not None:
            self._late.seen = current_backward()
        if not self._gradient.reject_batched(gradient):
            self._gradient.add(cut_part(gradient.detach(), self._whole, self._part))


class _WriteHook:
    """A node hook that adds the gradient of an in-place operation with respect to the values before it."""

    __slots__ = ("_edges", "_gradient", "_part", "_whole")

    def __init__(self, gradient: Gradient, whole: Place, part: Place, edges: list[int]) -> None:
        self._gradient = gradient
        self._whole = whole
        self._part = part
        self._edges = edges

    def __call__(self, inputs: tuple[torch.Tensor | None, ...], outputs: tuple[torch.Tensor | None, ...]) -> None:
        for edge in self._edges:
            gradient = inputs[edge]
            if gradient is not None and not self._gradient.reject_batched(gradient):
                self._gradient.add(cut_part(gradient.detach(), self._whole, self._part))


class _LateWrite:
    """A hook at the base of a view that detects gradients through an in-place operation that was not seen."""

    __slots__ = ("_gradient", "_handle", "_order", "_root", "seen")

    def __init__(self, gradient: Gradient, root: torch.Tensor) -> None:
        self.seen = NO_BACKWARD  # the last backward pass that reached the view itself
        self._gradient = gradient
        self._root = weakref.ref(root)
        self._order = _order_of(root.grad_fn)  # not the node, which holds this hook
        self._handle = root.register_hook(self._check_arrival)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()

    def _check_arrival(self, gradient: torch.Tensor) -> None:
        """Invalidate the gradient if the view's memory was modified outside the forward pass."""
        root = self._root()
        changed = self.seen != current_backward() if root is None else _order_of(root.grad_fn) != self._order
        if changed:
            self._gradient.invalidate(
                "the output is a view, and its memory was modified in place outside the model's forward pass. Modify a "
                "copy of it, or run the whole model inside the block."
            )


def _find_writes(newest: Node | None, origin: Edge) -> list[Node]:
    """Return the nodes of the in-place operations between an origin and the newest node, the newest first."""
    found: list[Node] = []
    node = newest
    while node is not None and node is not origin[0]:
        found.append(node)
        if origin in node.next_functions:
            return found
        node = node.next_functions[0][0] if node.next_functions else None
    return found if newest is None or node is origin[0] else _find_first_write(newest, origin)


def _find_first_write(newest: Node, origin: Edge) -> list[Node]:
    """Return the first write alone, where the writes are not linked by first edges (custom functions).

    No node reads the origin after the first write to it, so the first write is the last node that reads the origin.
    """
    waiting, seen, readers = [newest], {newest}, []
    while waiting:
        node = waiting.pop()
        if origin in node.next_functions and _order_of(node) != AT_ONCE:
            readers.append(node)
        later = {edge for edge, _ in node.next_functions if edge is not None and _order_of(edge) > _order_of(origin[0])}
        waiting += later - seen
        seen |= later
    return [max(readers, key=_order_of)] if readers else []


def _order_of(node: Node | None) -> int:
    """Return the sequence number of a node: its position in the order of creation; -1 for None."""
    return -1 if node is None else int(node._sequence_nr())


def is_backward() -> bool:
    """Return whether the current thread runs a backward pass; a layer that runs in one is recomputed."""
    return current_backward() != NO_BACKWARD


# A private name of torch, since there is no public one; where a release lacks it, backward passes are not told apart.
current_backward: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: NO_BACKWARD)
