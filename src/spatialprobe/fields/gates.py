"""The modules that see the whole image only to weigh or normalize it: they do not count as seeing it."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

from torch import nn

from spatialprobe.fields.reach import Reach

if TYPE_CHECKING:
    from spatialprobe.fields.forward_pass import Trace

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


def describe_gate(model: nn.Module, trace: Trace) -> str:
    """Return from which norm or gate on every unit sees the whole image, and how to leave that out; "" if from none.

    Where something else first sees it all, a large kernel or attention, nothing is said.
    """
    modules, kinds, gate = dict(model.named_modules()), gates_in(model), None
    for name, reach in trace.runs:
        if not isinstance(reach, Reach) or not _sees_everything(reach, trace.input_size):
            continue
        if gate is None and type(modules.get(name)) in kinds:
            gate = name
        if prod(reach.shape[2:]) > 1:  # units that could see different pixels
            break
    if gate is None:
        return ""
    names = ", ".join(repr(kind.__name__) for kind in kinds)
    return (
        f"From {gate} on each unit sees the whole image, by an average over it; ignore=[{names}] counts what is so "
        "computed as a constant, and shows what the convolutions see."
    )


def _sees_everything(reach: Reach, size: tuple[int, ...]) -> bool:
    """Return whether each unit sees all of the input."""
    spans = zip(reach.spans, size, strict=False)
    return bool(reach.spans) and all((span.lo <= 0).all() and (span.hi >= n).all() for span, n in spans)


def _is_gate(kind: type[nn.Module]) -> bool:
    return any(_GATE.fullmatch(base.__name__) for base in kind.__mro__)
