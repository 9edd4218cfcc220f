"""Follow a gradient through in-place operations on the memory in which a recorded value lies.

A tensor's own hook sees the gradient of all that was computed from the tensor. Not so for a view: an in-place operation
on it, or on what shares its memory, gives the tensor of which it is a view a new node, and the gradient takes that
way, past the hook. So the first such operation gets a hook, too. It is found when the forward pass has ended.
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
AT_ONCE = 2**64 - 1  # the number of nodes that run as soon as they can, whenever they were made


class Watch:
    """What is done in place to a recorded value, or to what shares its memory.

    Args:
        gradient: where to collect the gradient of the value.
        value: what was recorded.
        source: the tensor of the model that the value is, or is a part of; it requires a gradient.
        is_alias: whether it is an alias of tensors that are in no graph, through which its memory may be modified, too.
        hold: keep the memory alive until `release`, so that nothing is missed.
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
        """Look at what was done in place so far; return whether the watch is over."""
        root = self._root()
        if root is None:
            return True
        writes = _find_writes(root.grad_fn, self._origin)
        if self._version not in (None, root._version):
            self._gradient.invalidate(
                "the layer returned a tensor that requires no gradient without the probe and is known outside, and its "
                "memory was modified in place. Let the model's input require gradients, or the layer return a copy."
            )
        if not writes:
            return False
        if self._late is not None:
            self._late.close()
            self._follow(writes[-1])
        return self._version is None

    def release(self) -> None:
        """Let go of the memory, when the forward pass is over."""
        self._held, self._origin = None, (None, 0)
        if self._late is not None and self._root() is None:
            self._late.close()  # nobody can write to it any more

    def _follow(self, write: Node) -> None:
        """Add the gradient that comes by way of this in-place operation."""
        if self._part.overlaps:
            self._gradient.invalidate(
                "several elements of the output share one position in memory, which was modified in place. Let the "
                "layer return a copy."
            )
        edges = [number for number, edge in enumerate(write.next_functions) if edge == self._origin]
        write.register_hook(_WriteHook(self._gradient, self._whole, self._part, edges))
        self._late, self._is_view = None, False


class _DirectHook:
    """A tensor's hook: adds the gradient of all that was computed from the tensor itself."""

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
    """A node's hook: adds the gradient that an in-place operation passes on to what its memory held before."""

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
    """A hook at the origin of a view: finds out that a gradient came by way of a write that nobody has seen."""

    __slots__ = ("_gradient", "_handle", "_order", "_root", "seen")

    def __init__(self, gradient: Gradient, root: torch.Tensor) -> None:
        self.seen = NO_BACKWARD  # the last backward pass that reached the view itself
        self._gradient = gradient
        self._root = weakref.ref(root)
        self._order = _order_of(root.grad_fn)  # not the node, which holds this hook
        self._handle = root.register_hook(self._check_arrival)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Take the hook off."""
        self._handle.remove()

    def _check_arrival(self, gradient: torch.Tensor) -> None:
        root = self._root()
        changed = self.seen != current_backward() if root is None else _order_of(root.grad_fn) != self._order
        if changed:
            self._gradient.invalidate(
                "the output is a view, and its memory was modified in place outside the model's own forward. Modify a "
                "copy of it, or run the whole model inside the block."
            )


def _find_writes(newest: Node | None, origin: Edge) -> list[Node]:
    """Return the nodes of the in-place operations that led from an origin to the present, the newest first."""
    found: list[Node] = []
    node = newest
    while node is not None and node is not origin[0]:
        found.append(node)
        if origin in node.next_functions:
            return found
        node = node.next_functions[0][0] if node.next_functions else None
    return found if newest is None or node is origin[0] else _find_first_write(newest, origin)


def _find_first_write(newest: Node, origin: Edge) -> list[Node]:
    """Return the first write alone, where the chain of writes is not that of first edges (custom functions).

    No node reads the origin after the first write to it, which so is the last of those that do.
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
    """Return the place of a node in the order in which nodes were made."""
    return -1 if node is None else int(node._sequence_nr())


def is_backward() -> bool:
    """Return whether the current thread runs a backward pass; a layer that runs in one is computed again."""
    return current_backward() != NO_BACKWARD


# A private name of torch, for want of a public one: where a release lacks it, no backward pass is told from another.
current_backward: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: NO_BACKWARD)
