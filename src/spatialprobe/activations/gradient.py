"""Gradients of layers' outputs, collected by autograd hooks while a backward pass runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spatialprobe.activations.budget import Budget
from spatialprobe.errors import MutatedActivationError, ProbeStateError, SpatialProbeError, UnsupportedOutputError
from spatialprobe.tensors import count_bytes, is_batched


class Gradient:
    """The gradient of one value: None until a backward pass, then the sum over all of them."""

    __slots__ = ("_budget", "_device", "_layer", "_problem", "_value")

    def __init__(self, layer: str, budget: Budget, device: torch.device | None) -> None:
        self._value: torch.Tensor | None = None
        self._layer = layer
        self._budget = budget
        self._device = device
        self._problem: tuple[str, type[SpatialProbeError]] | None = None

    @property
    def value(self) -> torch.Tensor | None:
        """The sum so far.

        Raises:
            MutatedActivationError: a part of the gradient was lost.
            UnsupportedOutputError: a backward pass computed batched gradients.
        """
        if self._problem is not None:
            problem, error = self._problem
            raise error(f"The gradient of layer {self._layer!r} is not known: {problem}")
        return self._value

    def invalidate(self, problem: str, error: type[SpatialProbeError] = MutatedActivationError) -> None:
        """Mark the gradient as invalid, so that reading it raises an error with this explanation."""
        self._problem = self._problem or (problem, error)

    def reject_batched(self, gradient: torch.Tensor) -> bool:
        """Return whether a gradient is a batch of many (under `vmap`); if so, mark this one as invalid."""
        if not is_batched(gradient):
            return False
        self.invalidate(
            "a backward pass computed batched gradients (is_grads_batched=True, or inside vmap), which have no sum "
            "of one shape. Run one backward pass after the other, or batched ones on a forward pass without a probe.",
            UnsupportedOutputError,
        )
        return True

    def add(self, gradient: torch.Tensor) -> None:
        """Add the gradient of one backward pass; a tensor hook."""
        if self.reject_batched(gradient):
            return
        gradient = gradient.detach()
        if self._value is not None:
            self._value = self._value + gradient.to(self._value.device)
            return
        self._budget.take(self._layer, count_bytes(gradient))
        moved = gradient.to(self._device or gradient.device)
        self._value = gradient.clone() if moved is gradient else moved

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any, ...]]:
        return _identity, (self.value,)  # a copied or pickled record holds the sum so far


def require_gradients(layer: str, value: torch.Tensor) -> None:
    """Check that a backward pass will reach this value.

    Raises:
        ProbeStateError: the forward pass runs without gradients.
        UnsupportedOutputError: values of this dtype have no gradient.
    """
    if not torch.is_grad_enabled() or value.is_inference():
        raise ProbeStateError(
            f"Layer {layer!r} ran without gradients (under torch.no_grad or inference_mode, or in a checkpoint with "
            "use_reentrant=True), so gradients=True and keep_graph=True are impossible. Run the model with gradients "
            "enabled, and its checkpoints with use_reentrant=False or not at all."
        )
    if not (value.is_floating_point() or value.is_complex()):
        raise UnsupportedOutputError(f"The output of layer {layer!r} is {value.dtype}, which has no gradient.")


def _identity(value: Any) -> Any:
    return value
