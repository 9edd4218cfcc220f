"""Start an autograd graph at an output that requires no gradient, without a copy.

Where parameters and input are frozen there is no graph, and so no gradient. A graph is started at the output, in place:
the tensors of the model stay the same objects in the same memory, and views of each other, so that the model computes
the same as without a probe. Tensors that outlive the forward pass (the user's inputs, parameters, buffers) never
enter the graph: the model works on aliases of them, in the same memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.utils._pytree import tree_map

from spatialprobe.activations.leaves import tensors_in
from spatialprobe.activations.memory import root_of, storage_pointer
from spatialprobe.tensors import holds_own_memory
from spatialprobe.text import kind_of


class _Begin(torch.autograd.Function):
    """The identity, in place; the backward pass ends here."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
        context.mark_dirty(value)
        return value

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[None, None]:
        return None, None


def why_no_beginning(value: torch.Tensor) -> str | None:
    """Return the kind of a tensor at which torch cannot start a graph; None if it can."""
    if value.layout is not torch.strided:
        return None
    if value.is_nested:
        return "a nested tensor"
    if value._is_zerotensor():
        return "a tensor of zeros without memory"
    if not holds_own_memory(value):
        return f"{kind_of(value)}, a subclass of torch.Tensor whose values are not in its own memory"
    return None


def begin_graph(value: torch.Tensor, lasting: set[int]) -> torch.Tensor:
    """Return the tensor, or an alias in the same memory, as one that requires a gradient and is not a leaf.

    The tensor itself enters the graph, together with its base if it is a view, only if nothing else refers to them: no
    other view, which would stay out of the graph and could not be modified in place any more, and nothing that
    outlives the pass (whose address is one of `lasting`).
    """
    root = root_of(value)
    # As in `torch.utils.swap_tensors`: the Python object counts once, and so does each view.
    is_known = root._use_count() > 1 + (root is not value)  # type: ignore[attr-defined]
    if is_known or root.requires_grad or _address(root) in lasting or not _allows_writes(value):
        root = value = value.detach()
    with _unsafe_preserve_version_counter(root):  # no value changes: saved tensors stay valid
        _Begin.apply(root, torch.empty(0, device="cpu", requires_grad=True))
        _ = value.grad_fn  # torch updates a view's graph only while the counter differs
    return value


def alias_inputs(inputs: Any) -> Any:
    """Return the inputs with tensors that require no gradient replaced by aliases, which may enter a graph."""
    aliases: dict[int, torch.Tensor] = {}
    return tree_map(lambda leaf: _alias(leaf, aliases) if _can_be_aliased(leaf) else leaf, inputs)


def lasting_memory(model: nn.Module, inputs: Any) -> set[int]:
    """Return the addresses of memory that outlives a forward pass: of the model's state and of these inputs."""
    held = [
        value
        for module in model.modules()
        for name, value in vars(module).items()
        if not (name.endswith("_hooks") or name == "_modules")
    ]
    return memory_of([held, inputs])


def memory_of(values: Any) -> set[int]:
    """Return the addresses of all tensors in containers and objects."""
    return {_address(tensor) for tensor in tensors_in(values, depth=2)}


def _address(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's memory, or that of the object itself where it has no memory of its own."""
    pointer = storage_pointer(tensor)
    return id(tensor) if pointer is None else pointer


def _alias(tensor: torch.Tensor, known: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return the alias of a tensor; for a view, a view of its base's alias."""
    if id(tensor) not in known:
        root = root_of(tensor)
        if root is not tensor and _is_plain_view(tensor, root):
            alias = _alias(root, known).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        else:
            alias = tensor.detach()
        known[id(tensor)] = alias
    return known[id(tensor)]


def _can_be_aliased(leaf: Any) -> bool:
    return (
        type(leaf) is torch.Tensor
        and not (leaf.requires_grad or leaf.is_inference() or vars(leaf))
        and (leaf.is_floating_point() or leaf.is_complex())
        and leaf.layout is torch.strided
    )


def _is_plain_view(tensor: torch.Tensor, base: torch.Tensor) -> bool:
    """Return whether a view can be made of its base by size, stride and offset alone."""
    return _can_be_aliased(base) and tensor.dtype == base.dtype and not (tensor.is_conj() or tensor.is_neg())


def _allows_writes(value: torch.Tensor) -> bool:
    """Return whether torch lets a view be modified in place where gradients are required.

    It does not if the view is one of several that a function returned (`chunk`), or was made under `no_grad`.
    """
    meta = torch._C._autograd._get_creation_meta(value) if value._is_view() else None
    return meta in (None, torch._C._autograd.CreationMeta.DEFAULT)
