"""Gradients of what layers hand on, gathered by tensor hooks while the backward pass runs."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_map

from spatialprobe.activations.keeper import Budget
from spatialprobe.errors import ProbeStateError, UnsupportedOutputError


class Gradient:
    """The gradient of one value: None until a backward pass, then the sum over all of them."""

    __slots__ = ("_budget", "_device", "_layer", "value")

    def __init__(self, layer: str, budget: Budget, device: torch.device | None) -> None:
        self.value: torch.Tensor | None = None
        self._layer = layer
        self._budget = budget
        self._device = device

    def add(self, gradient: torch.Tensor) -> None:
        """Tensor hook: what one backward pass brings."""
        gradient = gradient.detach()
        if self.value is not None:
            self.value = self.value + gradient.to(self.value.device)
            return
        self._budget.take(self._layer, gradient.numel() * gradient.element_size())
        moved = gradient.to(self._device or gradient.device)
        self.value = gradient.clone() if moved is gradient else moved


def require_gradients(layer: str, value: torch.Tensor) -> None:
    """Check that a backward pass will reach this value.

    Raises:
        ProbeStateError: the forward pass runs without gradients.
        UnsupportedOutputError: values of this dtype have no gradient.
    """
    if not torch.is_grad_enabled() or value.is_inference():
        raise ProbeStateError(
            f"Layer {layer!r} ran without gradients (under torch.no_grad or inference_mode, or checkpointed), "
            "so gradients=True and keep_graph=True cannot hold. Run the model with gradients enabled."
        )
    if not (value.is_floating_point() or value.is_complex()):
        raise UnsupportedOutputError(f"Layer {layer!r} hands on {value.dtype}, which has no gradient.")


def start_of_graph(layer: str, value: torch.Tensor) -> torch.Tensor:
    """An equal tensor that requires a gradient, where parameters and input are frozen; in-place writes stay allowed."""
    require_gradients(layer, value)
    return value.detach().requires_grad_().clone()


def replaced(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """A layer's output with one tensor in it exchanged for another."""
    return tree_map(lambda leaf: new if leaf is old else leaf, output)
