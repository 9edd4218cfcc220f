"""The terms of a sweep, which all its processes must have in common, compared before they begin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from spatialprobe.model.select import all_layers
from spatialprobe.statistics.identity import describe, settings_identity
from spatialprobe.statistics.reducer import Reducer
from spatialprobe.storage.checksum import digest, fingerprint

_HASHED = "#"  # the prefix of checksums, which are not shown
UNKNOWN = "?"  # stands for a value that cannot be compared
_NAMED = 6  # differences shown under one heading
_SHOWN = 80  # characters shown of a value


@dataclass(frozen=True)
class Terms:
    """The terms of a sweep in one process: under headings such as "the weights", a description of each item by name."""

    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def dumps(self) -> bytes:
        """Return the terms as bytes."""
        return json.dumps(self.parts).encode()

    @staticmethod
    def loads(data: bytes) -> Terms:
        """Return the terms that `dumps` has written."""
        return Terms(json.loads(data))


def hash_value(value: object) -> str:
    """Return a checksum of a plain value that is too long to show."""
    return _HASHED + digest(repr(value).encode())[:24]


def modules_of(model: nn.Module) -> dict[str, str]:
    """Return the type and `extra_repr` of each module."""
    return {layer.name: f"{type(layer.module).__name__}({layer.module.extra_repr()})" for layer in all_layers(model)}


def settings_of(device: torch.device) -> dict[str, str]:
    """Return the settings of torch that change what a model computes on a device."""
    settings = settings_identity(device)
    return {
        "the default dtype": settings["dtype"],
        "autocast": str(settings["autocast"]),
        "the precision of matrix products": str(settings["precision"]),
    }


def weights_of(model: nn.Module) -> dict[str, str]:
    """Return a checksum of each parameter and buffer, or of its shape and dtype if its values cannot be read."""
    found = {}
    for layer in all_layers(model):
        for name, value in (*layer.module._parameters.items(), *layer.module._buffers.items()):
            if value is not None:
                found[f"{layer.name}.{name}".lstrip(".")] = hash_value(_try_fingerprint(value))
    return found


def code_of(function: Callable[..., Any] | None) -> str:
    """Return a checksum of a function's code, and of what it holds and uses; UNKNOWN if that cannot be described."""
    if function is None:
        return "None"
    with suppress(Exception):  # it may hold anything
        return hash_value(describe(function))
    return UNKNOWN


def reducers_of(kinds: Mapping[str, Reducer]) -> dict[str, str]:
    """Return a checksum of the new reducer of each name, or the name of its class if it cannot be described."""
    found = {}
    for name, reducer in kinds.items():
        found[name] = type(reducer).__qualname__
        with suppress(Exception):  # a reducer of a user's own may hold anything
            found[name] = hash_value(describe(reducer))
    return found


def describe_differences(terms: Sequence[Terms]) -> str:
    """Return a description of how the terms of some ranks differ from those of rank 0, empty if none do."""
    found = []
    for rank, other in enumerate(terms):
        parts = {**terms[0].parts, **other.parts}
        words = [_describe_difference(part, terms[0].parts.get(part, {}), other.parts.get(part, {})) for part in parts]
        if any(words):
            found.append(f"Rank {rank} differs from rank 0 in {'; '.join(filter(None, words))}.")
    if not found:
        return ""
    return (
        f"The {len(terms)} processes were not called for the same sweep. {' '.join(found)} All must have the same "
        "model, data and arguments: load one file of weights, or seed random numbers before creating model and data."
    )


def _describe_difference(part: str, first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Return a description of what differs between two ranks under one heading, empty if nothing does."""
    names = [
        name
        for name in {**first, **other}
        if first.get(name) != other.get(name) and UNKNOWN not in (first.get(name), other.get(name))
    ]
    if not names:
        return ""
    shown = ", ".join(_describe_item(name, first.get(name), other.get(name)) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{part} {shown}{more}".lstrip()


def _describe_item(name: str, first: str | None, other: str | None) -> str:
    """Return a description of one item that differs, with both values unless they are checksums."""
    if first is None or other is None:
        return f"{name} ({'only rank 0 has it' if other is None else 'rank 0 has none'})"
    if first.startswith(_HASHED) or other.startswith(_HASHED):
        return name
    return f"{name} ({other[:_SHOWN]}, not {first[:_SHOWN]})"


def _try_fingerprint(value: torch.Tensor) -> object:
    try:
        return fingerprint(value)
    except Exception:  # sharded, sparse and packed tensors raise exceptions of different types
        return [list(value.shape), str(value.dtype)]
