"""Select layers of a model by type, name or glob, regex, module, predicate, or several of these."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import TypeAlias

import torch
from torch import nn

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, LayerNotFoundError
from spatialprobe.model.names import suggest_names
from spatialprobe.text import format_count, kind_of

Selector: TypeAlias = (
    type[nn.Module]
    | tuple[type[nn.Module], ...]
    | str
    | re.Pattern[str]
    | nn.Module
    | Callable[[str, nn.Module], bool]
    | Sequence["Selector"]
)

_CALLED = "_called_by_function"  # the attribute under which `CalledBy` holds its model
_TRANSPARENT = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", _CALLED})
_GLOB = "*?["  # the characters that make a name a pattern
_NAMES_SHOWN = 12
_FEW_NAMES = 6
_SCRIPTED = "is compiled to TorchScript, whose layers take no hooks: pass the model that was compiled."


@dataclass(frozen=True)
class Layer:
    """A module of the model, with every name under which it can be found."""

    name: str  # dotted, as in `named_modules()`, without wrappers' prefixes; "" is the model itself
    aliases: tuple[str, ...]  # the other names under which the same module is registered
    raw_names: tuple[str, ...]  # all names with the wrappers' prefixes
    module: nn.Module

    @property
    def names(self) -> frozenset[str]:
        """Every name that finds this layer."""
        return frozenset((self.name, *self.aliases, *self.raw_names))


def all_layers(model: nn.Module) -> list[Layer]:
    """Return every module of the model once, in the order of `named_modules()`, without the wrappers themselves."""
    raw_names: dict[nn.Module, list[str]] = {}
    wrappers: dict[str, str] = {}  # the raw name of a wrapper -> the attribute that holds the wrapped module
    for raw_name, module in model.named_modules(remove_duplicate=False):
        child = _wrapped_child(module)
        if child is None:
            raw_names.setdefault(module, []).append(raw_name)
        else:
            wrappers[raw_name] = child
    layers = []
    for module, raw in raw_names.items():
        clean = list(dict.fromkeys(_remove_wrappers(name, wrappers) for name in raw)) if wrappers else raw
        layers.append(Layer(clean[0], tuple(clean[1:]), tuple(raw), module))
    return layers


def select(model: nn.Module, selector: Selector, called: str = "layers", *, scripted: bool = False) -> list[Layer]:
    """Return the layers that a selector matches, each once, in the model's order.

    Args:
        model: any module.
        selector: as for `Probe`.
        called: the name of the argument, for error messages.
        scripted: whether scripted layers, which take no hooks, are among them where a pattern, type or predicate
            matches them and other layers; the caller leaves them out by name.

    Raises:
        LayerNotFoundError: the selector, or one of a sequence of them, matches nothing.
        ArgumentError: the selector is of an unknown kind, or matches a layer that takes no hooks.
    """
    known = _LayerIndex(model)
    parts = _split_selector(selector)
    found = [(part, layer) for part in parts for layer in _find_matches(known, part, called)]
    matching = {id(layer.module) for _, layer in found}
    chosen = [layer for layer in known.layers if id(layer.module) in matching]
    hookless = {id(layer.module) for layer in chosen if not takes_hooks(layer.module)}
    exact = {id(layer.module) for part, layer in found if _is_exact(known, part)} if hookless else set()
    for layer in chosen:
        if id(layer.module) in hookless and (not scripted or id(layer.module) in exact or len(hookless) == len(chosen)):
            raise ArgumentError(describe_scripted(layer.name))
    return chosen


def describe_scripted(layer: str) -> str:
    """Return the message that a layer takes no hooks, and what to do."""
    return f"Layer {layer!r} {_SCRIPTED}"


def select_one(model: nn.Module, selector: Selector, called: str = "layer") -> Layer:
    """Return the single layer that a selector matches.

    Raises:
        LayerNotFoundError: the selector matches nothing.
        ArgumentError: the model is not a module, or the selector is of an unknown kind, or matches several layers.
    """
    check_model(model)
    chosen = select(model, selector, called)
    if len(chosen) > 1:
        names = ", ".join(repr(one.name) for one in chosen[:_FEW_NAMES]) + ", ..." * (len(chosen) > _FEW_NAMES)
        raise ArgumentError(f"{called}={short_repr(selector)} matches {len(chosen)} layers ({names}): choose one.")
    return chosen[0]


def find_exact_names(model: nn.Module, selector: Selector) -> frozenset[str]:
    """Return the names of the layers that a selector names exactly or holds as modules, not by pattern or type."""
    parts = [part for part in _split_selector(selector) if isinstance(part, (str, nn.Module))]
    if not parts:
        return frozenset()
    known = _LayerIndex(model)
    exact = [part for part in parts if _is_exact(known, part)]
    return frozenset(layer.name for part in exact for layer in _find_matches(known, part, "layers"))


def _is_exact(known: _LayerIndex, part: Selector) -> bool:
    if isinstance(part, str):
        return str(part) in known.by_name or not any(mark in part for mark in _GLOB)
    return isinstance(part, nn.Module)


def model_name(model: nn.Module) -> str:
    """Return the name of a model's class, without wrappers."""
    return type(unwrap(model)).__name__


def check_model(model: object) -> None:
    """Check that `model` is a module that takes hooks.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, not {kind_of(model)}.")
    if not takes_hooks(model):
        raise ArgumentError(f"The model {_SCRIPTED}")


def takes_hooks(module: nn.Module) -> bool:
    """Return whether a module calls its hooks; TorchScript runs compiled modules without them."""
    return not isinstance(module, torch.jit.ScriptModule)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the model inside of transparent wrappers, such as DataParallel."""
    child = _wrapped_child(module)
    return module if child is None else unwrap(module.get_submodule(child))


def without_devices(module: nn.Module) -> nn.Module:
    """Return the model inside wrappers that may want devices of their own, with the function that calls it, if any."""
    return module if _CALLED in module._modules else unwrap(module)


def without_replicas(module: nn.Module) -> nn.Module:
    """Return the model inside a DataParallel, which would run replicas of it in other threads."""
    return module.module if isinstance(module, nn.DataParallel) else module


def describe_unknown_name(name: str, layers: list[Layer]) -> str:
    """Return the message that there is no such layer, with similar names."""
    return f"No layer named {short_repr(name)}.{suggest_names(name, [layer.name for layer in layers])}"


def _wrapped_child(module: nn.Module) -> str | None:
    """Return the attribute under which a transparent wrapper holds the wrapped model; None for other modules."""
    held = module._modules
    if not held:
        return None
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return "module"
    if isinstance(module, torch.jit.ScriptModule):  # whose `_modules` is no dictionary
        return None
    return None if _TRANSPARENT.isdisjoint(held) else next(iter(_TRANSPARENT & held.keys()))


def _remove_wrappers(raw_name: str, wrappers: dict[str, str]) -> str:
    """Return a raw name without the attributes of wrappers: `module.layer1._orig_mod.0` becomes `layer1.0`."""
    kept: list[str] = []
    parent = ""
    for part in raw_name.split(".") if raw_name else []:
        if wrappers.get(parent) != part:
            kept.append(part)
        parent = f"{parent}.{part}" if parent else part
    return ".".join(kept)


def _split_selector(selector: Selector) -> list[Selector]:
    """Return the selectors in a sequence, flattened; a tuple of types is one selector, as in `isinstance`."""
    if isinstance(selector, (str, nn.Module, torch.Tensor)) or not isinstance(selector, Iterable):
        return [selector]
    if isinstance(selector, Mapping):
        raise ArgumentError("layers takes selectors, not a mapping of them: pass its keys, list(layers).")
    parts = list(selector)
    if not parts:
        raise ArgumentError("layers is empty: pass at least one selector, such as nn.Conv2d or 'conv1'.")
    if isinstance(selector, tuple) and all(isinstance(part, type) for part in parts):
        return [selector]
    return [inner for part in parts for inner in _split_selector(part)]


class _LayerIndex:
    """The layers of a model, indexed by name and by module."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers = all_layers(model)

    @cached_property
    def by_name(self) -> dict[str, list[Layer]]:
        """The layers that each name finds."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for name in layer.names:
                found.setdefault(name, []).append(layer)
        return found

    @cached_property
    def by_module(self) -> dict[int, list[Layer]]:
        """The layer of each module, by the module's id."""
        return {id(layer.module): [layer] for layer in self.layers}

    def matching(self, pattern: re.Pattern[str]) -> list[Layer]:
        """Return the layers of which the pattern matches a whole name."""
        return [layer for name, layers in self.by_name.items() if pattern.fullmatch(name) for layer in layers]


def _find_matches(known: _LayerIndex, selector: Selector, called: str) -> list[Layer]:
    """Return the layers that one selector matches.

    Raises:
        LayerNotFoundError: there are none.
    """
    if isinstance(selector, (type, tuple)):
        types = _check_types(selector)
        found = [layer for layer in known.layers if isinstance(layer.module, types)]
    elif isinstance(selector, nn.Module):
        found = known.by_module.get(id(unwrap(selector)), [])
    elif isinstance(selector, re.Pattern):
        found = known.matching(selector)
    elif isinstance(selector, str):
        found = _find_by_name(known, selector)
    elif callable(selector):
        _check_predicate(selector, called)
        found = [layer for layer in known.layers if selector(layer.name, layer.module)]
    else:
        raise ArgumentError(
            f"{called} cannot be {short_repr(selector)}: pass a module type, a name or glob, a compiled regex, "
            "a module of the model, a predicate (name, module) -> bool, or a sequence of these."
        )
    if not found:
        raise LayerNotFoundError(f"{_describe_mismatch(known, selector)} {_describe_layers(known.layers)}")
    return found


def _describe_mismatch(known: _LayerIndex, selector: Selector) -> str:
    """Return why a selector matches nothing. The search for similar names is slow, and so is for errors only."""
    model, layers = model_name(known.model), known.layers
    if isinstance(selector, (type, tuple)):
        return f"{model} has no module of type {_format_types(selector)}.{_suggest_convolutions(layers)}"
    if isinstance(selector, nn.Module):
        return f"This {type(selector).__name__} is not part of {model}."
    if isinstance(selector, re.Pattern):
        return f"The pattern {selector.pattern!r} does not match a whole layer name."
    if isinstance(selector, str):
        return describe_unknown_name(selector, layers) + _suggest_type(selector, layers)
    return f"The predicate is true for no module of {model}, which has {format_count(len(layers), 'module')}."


def _check_predicate(predicate: Callable[[str, nn.Module], bool], called: str) -> None:
    """Check that a predicate takes a name and a module.

    Raises:
        ArgumentError: it takes other arguments.
    """
    try:
        signature = inspect.signature(predicate)
    except ValueError:  # some built-in functions have none
        return
    try:
        signature.bind("", None)
    except TypeError as error:
        raise ArgumentError(
            f"The predicate of {called} takes {signature}: pass one of a name and a module, such as "
            "lambda name, module: module.kernel_size == (1, 1)."
        ) from error


def _find_by_name(known: _LayerIndex, name: str) -> list[Layer]:
    """Return the layers of exactly this name; if there are none and it is a glob, those whose whole name it matches."""
    name = str(name)  # an instance of a subclass may not be hashable
    if name in known.by_name:
        return known.by_name[name]
    if any(mark in name for mark in _GLOB):
        return known.matching(re.compile(translate(name)))
    return known.by_name.get(_strip_prefixes(name), [])


def _strip_prefixes(name: str) -> str:
    """Return a name from a checkpoint of a wrapped model without the wrappers' prefixes."""
    parts = name.split(".")
    while parts[0] in (*_TRANSPARENT, "module") and len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts)


def _check_types(selector: type | tuple[type, ...]) -> tuple[type, ...]:
    types = selector if isinstance(selector, tuple) else (selector,)
    for kind in types:
        if not issubclass(kind, nn.Module):
            raise ArgumentError(f"layers holds the type {kind.__name__}, which is not an nn.Module.")
    return types


def _format_types(selector: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in _check_types(selector))


def _suggest_type(name: str, layers: list[Layer]) -> str:
    """Return the hint to select layers by the type itself, if a name is that of a type."""
    kinds = {type(layer.module).__name__ for layer in layers}
    return f" Select layers of a type by the type itself, nn.{name}, not by its name." if name in kinds else ""


def _suggest_convolutions(layers: list[Layer]) -> str:
    """Return the hint which types of convolutions the model has."""
    kinds = {type(layer.module).__name__ for layer in layers if isinstance(layer.module, nn.modules.conv._ConvNd)}
    return f" Select its convolutions with layers=nn.{' or nn.'.join(sorted(kinds))}." if kinds else ""


def _describe_layers(layers: list[Layer]) -> str:
    """Return the list of the model's leaf layers as text: by name, or by type if there are many."""
    leaves = [layer for layer in layers if not any(layer.module.children())]
    if len(leaves) <= _NAMES_SHOWN:
        return f"Its layers: {', '.join(layer.name or '(the model itself)' for layer in leaves)}."
    kinds = Counter(type(layer.module).__name__ for layer in leaves)
    counted = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_NAMES_SHOWN))
    return f"Its layers by type: {counted}; `dict(model.named_modules())` names them."
