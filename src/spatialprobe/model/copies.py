"""Copies of a model in memory, which a library may run in the place of the model."""

from __future__ import annotations

import gc

from torch import nn

from spatialprobe.model.select import unwrap
from spatialprobe.text import format_count


def find_copies(model: nn.Module) -> list[nn.Module]:
    """Return other models in memory, of the class of this model, or of that of a model that it holds directly.

    Classes of torch itself are not looked for, since every model has modules of these.

    >>> class Net(nn.Module): ...
    >>> one, other = Net(), Net()
    >>> find_copies(one) == [other]
    True
    """
    inner = unwrap(model)
    kinds = {type(one) for one in (inner, *inner.children()) if not type(one).__module__.startswith("torch.")}
    own = set(map(id, model.modules()))
    return [one for one in gc.get_objects() if type(one) in kinds and id(one) not in own]


def describe_copies(copies: list[nn.Module]) -> str:
    """Return a message about copies of a model that did not run: one of them may have, and how it is found."""
    kind = type(copies[0]).__name__
    return (
        f"But {format_count(len(copies), 'other ' + kind)} {'is' if len(copies) == 1 else 'are'} in memory: a library "
        "that was called may run a copy of the model, as predictors do. Probe that one: [one for one in "
        f"gc.get_objects() if type(one).__name__ == {kind!r}] has them all, gc.get_referrers(one) what holds one."
    )
