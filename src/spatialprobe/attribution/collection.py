"""Attributions as a mapping from layer names, however often a layer ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from spatialprobe.attribution.result import Attribution
from spatialprobe.model.calls import LayerCalls
from spatialprobe.model.names import find_name
from spatialprobe.text import format_count, format_table


class Attributions(LayerCalls[Attribution]):
    """What layers contribute to the scores, found by their names, in the order in which they first ran.

    `self["conv1"]` is the attribution of a layer that ran once, `self["conv1", i]` that of the i-th of several runs.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    >>> found = sp.attribute(model, torch.rand(4, 3, 16, 16), target=3, layers="*")
    >>> list(found), sorted(found.left_out)
    (['0'], ['', '1', '2', '3', '4'])
    """

    def __init__(self, found: Sequence[Attribution], left_out: Mapping[str, str]) -> None:
        self._found = tuple(found)
        self._left_out = dict(left_out)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why layers that a type, pattern or predicate chose are not here, by name."""
        return MappingProxyType(self._left_out)

    def calls(self, layer: str) -> tuple[Attribution, ...]:
        """Return the attributions of all runs of one layer, in the order of execution.

        Raises:
            LayerNotFoundError: there is none; the message says why the layer was left out.
        """
        why = self._left_out.get(layer) if isinstance(layer, str) and type(layer).__hash__ is not None else None
        problem = f"{why} So there is no attribution of" if why else "There is no attribution of a layer"
        name = find_name(layer, {one.layer for one in self._found}, problem)
        return tuple(one for one in self._found if one.layer == name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(one.layer for one in self._found))

    def __repr__(self) -> str:
        lines = [("layer", "run", "channels", "units", "strongest channels of image 0")]
        for one in self._found:
            units = "" if one.map is None else str(tuple(one.map.shape[1:]))
            top = ", ".join(map(str, one.top(min(5, one.channels.shape[1]))[0].tolist()))
            lines.append((one.layer, str(one.call), str(one.channels.shape[1]), units, top))
        first = self._found[0]
        left = f"; {format_count(len(self._left_out), 'layer')} left out" if self._left_out else ""
        images = format_count(len(first.score), "image")
        return format_table(f"Attributions by {first.method}, {first.at}, of {images}{left}", lines, (1, 2))
