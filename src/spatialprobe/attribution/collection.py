"""Attributions as a mapping from layer names, however often a layer ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from spatialprobe.attribution.result import Attribution
from spatialprobe.html_table import Cell, Html, format_html_table
from spatialprobe.model.calls import LayerCalls
from spatialprobe.model.names import find_name
from spatialprobe.text import describe_left_out, format_count, format_table

_HEADINGS = ("layer", "run", "channels", "units", "strongest channels of image 0")
_NUMBERS = (1, 2)  # columns that are flush right
_FEW = 3  # channels that are named
_CHECK = "sp.evidence.channel_deletion(model, images, attribution) checks one of them by removing its top channels."


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
        table = format_table(self._title(), [_HEADINGS, *map(_row, self._found)], _NUMBERS)
        return "\n".join([table, *self._remarks()])

    def _repr_html_(self) -> str:
        """The table for a notebook, with a thumbnail of each map of the first image."""
        from spatialprobe.render.thumbnails import draw_signed_map  # numbers wait for no drawing

        thumbnails = [
            Html("")
            if one.map is None
            else draw_signed_map(
                one.map[0].numpy() * one.map[0].numel(), one._question.reach, f"{one.layer or '(model)'}, image 0"
            )
            for one in self._found
        ]
        rows: list[tuple[Cell, ...]] = [_row(one) for one in self._found]
        if not any(one.code for one in thumbnails):
            return format_html_table(
                self._title(), _HEADINGS, rows, flush_right=_NUMBERS, remarks=[*self._remarks(), _CHECK]
            )
        words = "Maps of image 0: violet speaks for the score, orange against it, on one scale for all layers."
        rows = [(*row, picture) for row, picture in zip(rows, thumbnails, strict=True)]
        return format_html_table(
            self._title(), (*_HEADINGS, "map"), rows, flush_right=_NUMBERS, remarks=[*self._remarks(), words, _CHECK]
        )

    def _title(self) -> str:
        first = self._found[0]
        return f"Attributions by {first.method}, {first.at}, of {format_count(len(first.score), 'image')}"

    def _remarks(self) -> list[str]:
        """Return the lines below the table."""
        return [describe_left_out(self._left_out)] if self._left_out else []


def _row(one: Attribution) -> tuple[str, ...]:
    """Return the cells of one run."""
    units = "" if one.map is None else str(tuple(one.map.shape[1:]))
    strongest = one.top(min(_FEW, one.channels.shape[1]))[0]
    top = ", ".join(f"{int(channel)} ({float(one.channels[0, channel]):+.3g})" for channel in strongest)
    return (one.layer or "(model)", str(one.call), str(one.channels.shape[1]), units, top)
