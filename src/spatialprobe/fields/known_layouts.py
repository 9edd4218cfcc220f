"""The layouts of models that were followed before, kept as long as nothing that they depend on has changed."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.utils._pytree import tree_flatten

from spatialprobe.fields.question import Question
from spatialprobe.fields.rules.table import count_rules
from spatialprobe.model.description import Description, UndescribableError
from spatialprobe.model.layout import Layout
from spatialprobe.model.select import all_layers
from spatialprobe.storage.checksum import digest

Layouts = Mapping[str, tuple[Layout | None, ...]]  # of each run of each layer; None where it is in doubt

_MOST = 8  # answers that are kept of one model
_KNOWN: WeakKeyDictionary[nn.Module, dict[str, Layouts]] = WeakKeyDictionary()


def identify(model: nn.Module, asked: Question, wanted: frozenset[str]) -> str | None:
    """Return a checksum of all that the layouts depend on: the model, the input's form, and the settings of torch.

    The model is described by its structure, its attributes, the code of the user's own classes, its hooks, and the
    values of its buffers and of frozen parameters, which may be masks; those of other parameters do not count.

    Returns:
        None where not all of it can be described.
    """
    leaves, structure = tree_flatten(asked.arguments)
    others = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
    watched = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    if len(leaves) - len(others) != 1 or watched or type(model).__hash__ is not object.__hash__:
        return None
    image = next(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
    form = [type(image), tuple(image.shape), image.stride(), image.dtype, str(image.layout), str(image.device)]
    settings = [torch.get_default_dtype(), [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")], count_rules()]
    hooks = [
        list(held.values()) for held in (module_hooks._global_forward_pre_hooks, module_hooks._global_forward_hooks)
    ]
    describes = Description(weights=False)
    try:
        rest = describes.of([others, str(structure), asked.input, sorted(wanted), form, settings, hooks])
        names = [layer.names for layer in all_layers(model)]  # a shared layer differs from two alike
        return digest(repr([describes.of(model), names, rest]).encode())
    except (UndescribableError, RecursionError):
        return None


def recall(model: nn.Module, key: str | None) -> Layouts | None:
    """Return the layouts that were found for the same; None if there are none."""
    return None if key is None else _KNOWN.get(model, {}).get(key)


def remember(model: nn.Module, key: str | None, found: Layouts) -> None:
    """Keep layouts for when the same is asked again, in place of the oldest if they are many."""
    if key is None:
        return
    kept = _KNOWN.setdefault(model, {})
    while len(kept) >= _MOST:
        del kept[next(iter(kept))]
    kept[key] = found
