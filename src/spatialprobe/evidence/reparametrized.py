"""Weights that torch's hooks weight_norm, spectral_norm and prune compute from others before each forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from spatialprobe.model.copying import copy_model

_KINDS: tuple[tuple[type, Callable[[nn.Module, str], object]], ...] = (  # a hook, and the function that removes it
    (WeightNorm, remove_weight_norm),
    (SpectralNorm, remove_spectral_norm),
    (BasePruningMethod, prune.remove),
)


def find_unknown_computed_weight(module: nn.Module) -> str | None:
    """Return the name of a weight that a forward pre-hook of another kind seems to compute; None if there is none."""
    known = {_tensor_name(hook) for hook in _find_hooks(module)}
    others = len(module._forward_pre_hooks) > len(_find_hooks(module))
    plain = (name for name in ("weight", "bias") if isinstance(vars(module).get(name), torch.Tensor))
    return next((name for name in plain if name not in known), None) if others else None


def make_plain(module: nn.Module) -> None:
    """Replace each tensor that a hook computes by a parameter with the values that it has in evaluation mode."""
    for hook in reversed(_find_hooks(module)):
        name = _tensor_name(hook)
        trained = any(one.requires_grad for one in find_sources(module, name))
        remove = next(remove for kind, remove in _KINDS if isinstance(hook, kind))
        remove(module, name)
        getattr(module, name).requires_grad_(trained)


def find_sources(module: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the parameters that a tensor of a module comes from: the one of that name, or those that a hook reads."""
    named = module._parameters.items()
    return [held for key, held in named if held is not None and (key == name or key.startswith(f"{name}_"))]


def initialize(module: nn.Module) -> None:
    """Set a module's weights to those that its `reset_parameters` draws, as its hooks transform them.

    So weights stay normalized or pruned. A spectral norm divides by the true norm, at which power iterations have
    converged.
    """
    if not _find_hooks(module):
        module.reset_parameters()  # type: ignore[operator]
        return
    twin = copy_model(module)
    make_plain(twin)
    twin.reset_parameters()  # type: ignore[operator]
    with torch.no_grad():
        for name, value in twin.named_parameters(recurse=False):
            _assign(module, name, value.detach())
        for hook in _find_hooks(module):
            _refresh(module, hook)


def _find_hooks(module: nn.Module) -> list[Any]:
    """Return the hooks of the known kinds that a module has."""
    kinds = tuple(kind for kind, _ in _KINDS)
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kinds)]


def _tensor_name(hook: Any) -> str:
    """Return the name of the tensor that a hook computes."""
    name: str = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
    return name


def _assign(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Set a tensor of a module to these values: the tensor itself, or those that it is computed from."""
    if name in module._parameters or name in module._buffers:
        held = module._parameters.get(name, module._buffers.get(name))
        assert held is not None
        held.copy_(value)
        return
    hook = next(hook for hook in _find_hooks(module) if _tensor_name(hook) == name)
    if isinstance(hook, WeightNorm):
        _assign(module, f"{name}_g", torch.norm_except_dim(value, 2, hook.dim))
        _assign(module, f"{name}_v", value)
    elif isinstance(hook, SpectralNorm):
        left, _, right = torch.linalg.svd(hook.reshape_weight_to_matrix(value), full_matrices=False)
        _assign(module, f"{name}_orig", value)
        _assign(module, f"{name}_u", left[:, 0])
        _assign(module, f"{name}_v", right[0])
    else:
        _assign(module, f"{name}_orig", value)


def _refresh(module: nn.Module, hook: Any) -> None:
    """Compute a hook's tensor, as it does before a forward in evaluation mode."""
    had, mode = "training" in vars(module), getattr(module, "training", False)
    module.training = False
    hook(module, None)
    if had:
        module.training = mode
    else:
        del module.training
