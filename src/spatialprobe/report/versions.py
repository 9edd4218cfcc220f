"""Two models on one page: each layer of both in turn, and the difference of their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError
from spatialprobe.render.scale import Values
from spatialprobe.report.coded_maps import CodedMaps
from spatialprobe.report.layers import DIFFERENCE, PageLayer
from spatialprobe.report.passes import Run
from spatialprobe.text import kind_of

_MODELS = 2


@dataclass(frozen=True, eq=False)
class Version:
    """A model on the page, with what it showed."""

    name: str
    layers: Sequence[PageLayer]
    values: Mapping[Run, Sequence[Values]]  # of each run the maps (C, H, W), one an image


def check_models(models: Mapping[Any, object]) -> list[tuple[str, nn.Module]]:
    """Return the names and models of a page of two.

    Raises:
        ArgumentError: there are not two models, or a name is no text.
    """
    found = []
    for name, model in models.items():
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"The name of a model must be a text, not {short_repr(name)}.")
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model[{short_repr(name)}] is {kind_of(model)}: pass a model, an nn.Module.")
        found.append((name, model))
    if len(found) != _MODELS:
        raise ArgumentError(
            f"model is a mapping of {len(found)} models: a page shows one model, or two side by side, as in "
            '{"before": one, "after": other}.'
        )
    return found


def names_of_versions(names: Sequence[str]) -> tuple[str, ...]:
    """Return what the page offers of each layer.

    >>> names_of_versions(["before", "after"])
    ('before', 'after', 'after − before')
    """
    one, other = names
    return one, other, f"{other} \N{MINUS SIGN} {one}"


def join_versions(one: Version, other: Version) -> tuple[list[PageLayer], list[str]]:
    """Return each layer that both models have as three, one of each model and their difference; and what is left out.

    Raises:
        ArgumentError: the models have no such layer.
    """
    theirs = {layer.name: layer for layer in other.layers}
    joined: list[PageLayer] = []
    left_out = []
    for layer in one.layers:
        match = theirs.pop(layer.name, None)
        if match is None:
            left_out.append(f"{layer.name} is left out: {other.name} has no maps of a layer of this name.")
        elif [maps.codes.shape for maps in match.maps] != [maps.codes.shape for maps in layer.maps]:
            sizes = (" x ".join(map(str, each.maps[0].codes.shape)) for each in (layer, match))
            left_out.append(f"{layer.name} is left out: its maps are {' and '.join(sizes)}.")
        else:
            joined += _versions_of(layer, match, one, other)
    left_out += [f"{name} is left out: {one.name} has no maps of a layer of this name." for name in theirs]
    if not joined:
        raise ArgumentError(f"The models have no layer of one name and size to show side by side. {left_out[0]}")
    return joined, left_out


def _versions_of(layer: PageLayer, match: PageLayer, one: Version, other: Version) -> list[PageLayer]:
    """Return a layer of both models, on one color scale, and their difference."""
    pairs = zip(one.values[layer.layer, layer.run], other.values[match.layer, match.run], strict=True)
    difference = replace(
        layer,
        kind=DIFFERENCE,
        maps=tuple(CodedMaps.of(theirs.astype("f8") - mine.astype("f8")) for mine, theirs in pairs),
        kernels=None,
        swept=None,
        synthesized=None,
        concepts=None,
        source=None,
    )
    both = replace(layer, beside=match.maps), replace(match, beside=layer.maps)
    names = names_of_versions([one.name, other.name])
    strength = np.max(
        [each.maps[0].reach for each in (*both, difference)], axis=0
    )  # so that all keep the same channels
    return [
        _named(replace(each, strength=strength), name) for each, name in zip((*both, difference), names, strict=True)
    ]


def _named(layer: PageLayer, version: str) -> PageLayer:
    source = f"{layer.source}, {version}" if layer.source else layer.source
    return replace(layer, name=f"{layer.name}, {version}", source=source)
