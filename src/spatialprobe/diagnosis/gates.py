"""The modules that see the whole image only to weigh or normalize it: they do not count as seeing it."""

from __future__ import annotations

import re

from torch import nn

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
_GATE = re.compile(
    r"(SE|Eca|ECA)(Module|Layer|Block|Unit)?|(Effective)?SEModule|Squeeze(And)?Excit\w*|ChannelAttention", re.A
)


def gates_in(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """Return the types of a model's norms over the image, and of its gates from a pooled image [Hu et al. 2018].

    >>> [kind.__name__ for kind in gates_in(nn.Sequential(nn.GroupNorm(1, 4), nn.Conv2d(4, 4, 1)))]
    ['GroupNorm']
    """
    kinds = dict.fromkeys(type(module) for module in model.modules())
    return tuple(kind for kind in kinds if issubclass(kind, _NORMS) or _is_gate(kind))


def _is_gate(kind: type[nn.Module]) -> bool:
    return any(_GATE.fullmatch(base.__name__) for base in kind.__mro__)
