"""The norms and dropouts of a model that compute something else in training mode."""

from __future__ import annotations

from torch import nn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_DROPOUTS = nn.modules.dropout._DropoutNd


def find_training_modules(model: nn.Module) -> list[str]:
    """Return the names of norms that use the batch, and dropouts that are active, since they are in training mode.

    >>> model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.0))
    >>> find_training_modules(model), find_training_modules(model.eval())
    (['0'], [])
    """
    return [name for name, module in model.named_modules() if _depends_on_mode(module) and module.training]


def _depends_on_mode(module: nn.Module) -> bool:
    if isinstance(module, _DROPOUTS):
        return module.p > 0
    return isinstance(module, _NORMS) and bool(module.track_running_stats)
