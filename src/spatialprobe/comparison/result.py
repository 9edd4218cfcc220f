"""The result of a comparison, and its file format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from spatialprobe.activations.records import At
from spatialprobe.arguments import as_int
from spatialprobe.comparison.matching import MatchedBy
from spatialprobe.errors import LayerNotFoundError
from spatialprobe.html_fields import format_fields_html
from spatialprobe.html_table import format_html_table
from spatialprobe.mappings import CompletedMapping, FrozenMapping
from spatialprobe.model.names import find_name
from spatialprobe.storage.archive import Archive
from spatialprobe.storage.schema import MalformedError, check
from spatialprobe.text import describe_left_out, format_count, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ARCHIVE = Archive("spatialprobe comparison", 1, writer="Comparison.save", kind="comparison")


@dataclass(frozen=True, eq=False, repr=False)
class ChannelComparison:
    """The channels of one layer beside those of its namesake in the other model.

    All tensors are float64 (C,), but for `match`. A channel that is constant in one of the models has correlation 0.

    >>> import torch, spatialprobe as sp
    >>> conv = torch.nn.Conv2d(1, 3, 3)
    >>> turned = torch.nn.Conv2d(1, 3, 3)
    >>> turned.load_state_dict({"weight": conv.weight[[2, 0, 1]], "bias": conv.bias[[2, 0, 1]]})
    <All keys matched successfully>
    >>> sp.compare(conv, turned, torch.rand(20, 1, 8, 8), progress=False)[""].match
    tensor([1, 2, 0])
    """

    layer: str
    count: int  # values of each channel: samples times units
    correlation: torch.Tensor  # of each channel with its namesake, over all samples and units
    match: torch.Tensor  # int64 (C,): the channel of the other model that goes with each channel, one to one
    match_correlation: torch.Tensor  # of each channel with its match
    matched_by: MatchedBy  # "hungarian": the best match of all; "greedy": where scipy is not installed
    drift: torch.Tensor  # root mean square difference from the namesake, over `std`; infinite where that is 0
    mean: torch.Tensor
    other_mean: torch.Tensor
    std: torch.Tensor  # standard deviation over samples and units
    other_std: torch.Tensor

    def __repr__(self) -> str:
        moved = sum(channel != own for own, channel in enumerate(self.match.tolist()))
        channel = int(self.drift.argmax())
        return (
            f"ChannelComparison({self.layer!r}, {format_count(len(self.drift), 'channel')}, mean correlation "
            f"{float(self.correlation.mean()):.3f}, {moved} matched elsewhere, largest drift "
            f"{float(self.drift[channel]):.3g} of channel {channel})"
        )

    def _repr_html_(self) -> str:
        """Return the fields as a table for a notebook."""
        return format_fields_html(self, self.layer)


@dataclass(frozen=True, eq=False)
class ChangedChannel:
    """The maps of a channel in both models, on the first sample that was read."""

    layer: str
    channel: int
    drift: float
    one: torch.Tensor  # (H, W) float32
    other: torch.Tensor  # (H, W) float32


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(CompletedMapping[str, ChannelComparison]):
    """What two models have in common: the similarity of their layers, and the channels of layers of one name.

    `comparison[layer]` is the `ChannelComparison` of a layer that both have, with the same number of channels.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> found = sp.compare(model, model, torch.rand(100, 3, 16, 16), progress=False)
    >>> found
    Comparison of Sequential with Sequential: 100 samples, 2 and 2 layers
      layer    CKA  ±      most like    CKA  channels  correlation  largest drift
      0      1.000  0.000  0          1.000         6        1.000  0 of channel 0
      2      1.000  0.000  2          1.000        12        1.000  0 of channel 0
    """

    layers: tuple[str, ...]  # of one model, L1 in all
    other_layers: tuple[str, ...]  # of the other, L2 in all
    cka: torch.Tensor  # float64 (L1, L2): the similarity of each pair of layers
    standard_error: torch.Tensor  # float64 (L1, L2): of the same; NaN if there was one batch
    n: int  # samples
    channels: Mapping[str, ChannelComparison]  # by layer
    model: str  # the class of one model
    other: str  # the class of the other
    at: str  # "output" or "post_activation"
    left_out: Mapping[str, str] = field(default_factory=dict)  # layer of one -> why it was not compared
    other_left_out: Mapping[str, str] = field(default_factory=dict)  # the same of the other
    unmatched: Mapping[str, str] = field(default_factory=dict)  # layer of both -> why its channels were not compared
    constant: tuple[str, ...] = ()  # layers of one that are the same for all samples, so that nothing is like them
    other_constant: tuple[str, ...] = ()  # the same of the other
    changed: tuple[ChangedChannel, ...] = ()  # the maps of those that changed most

    def __getitem__(self, layer: str) -> ChannelComparison:
        name = find_name(layer, [*self.channels, *self.unmatched], "The comparison has no channels of a layer")
        if name in self.unmatched:
            raise LayerNotFoundError(f"The channels of layer {name!r} were not compared: {self.unmatched[name]}")
        return self.channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.channels)

    def __len__(self) -> int:
        return len(self.channels)

    def most_changed(self, k: int = 10) -> list[tuple[str, int, float]]:
        """Return layer, channel and drift of the k channels that changed most, the largest drift first.

        Of equal ones the earlier layer and lower number come first.
        """
        as_int(k, "k", least=1)
        found = [
            (layer, channel, drift)
            for layer, one in self.channels.items()
            for channel, drift in enumerate(one.drift.tolist())
        ]
        return sorted(found, key=lambda entry: -entry[2])[:k]

    def figure(self, *, title: str | None = None, width: float | None = None, dpi: float | None = None) -> Figure:
        """Return a figure of the similarity of all layers, beside the channels that changed most.

        Each channel's two maps share one scale, and the map of their difference has its own; the words below say both.
        They are of the first sample that was read. Where that is not known, as of an iterable that several processes
        shared, only the similarities are drawn.

        Args:
            title: in place of the picture's own.
            width: in inches.
            dpi: of a raster that is made from the figure.
        """
        from spatialprobe.comparison.comparison_page import draw_comparison  # so that numbers wait for no drawing

        return draw_comparison(self, title, width, dpi)

    def __repr__(self) -> str:
        heading, rows, remarks = self._table()
        return "\n".join([format_table(heading, rows, flush_right=(1, 4, 5, 6)), *remarks])

    def _repr_html_(self) -> str:
        """Return the table as HTML for a notebook."""
        heading, rows, remarks = self._table()
        return format_html_table(heading, rows[0], rows[1:], flush_right=(1, 4, 5, 6), remarks=remarks)

    def _table(self) -> tuple[str, list[tuple[str, ...]], list[str]]:
        """Return the heading, the rows of cells, the first of which names the columns, and remarks below the table."""
        heading = (
            f"Comparison of {self.model} with {self.other}: {format_count(self.n, 'sample')}, {len(self.layers)} and "
            f"{format_count(len(self.other_layers), 'layer')}"
        )
        columns = ("layer", "CKA", "±", "most like", "CKA", "channels", "correlation", "largest drift")
        rows = [self._row(number, layer) for number, layer in enumerate(self.layers)]
        remarks = [describe_left_out(self.left_out)]
        remarks.append(describe_left_out(self.other_left_out).replace(".left_out", ".other_left_out"))
        return heading, [columns, *rows], list(filter(None, remarks))

    def _row(self, number: int, layer: str) -> tuple[str, ...]:
        found, error = "", ""
        if layer in self.other_layers:
            column = self.other_layers.index(layer)
            found = f"{float(self.cka[number, column]):.3f}"
            error = f"{float(self.standard_error[number, column]):.3f}".replace("nan", "")
        like = self._most_like(number, layer)
        one = self.channels.get(layer)
        if one is None:
            return (layer or "(model)", found, error, *like, "", "", "")
        channel = int(one.drift.argmax())
        drift = f"{float(one.drift[channel]):.3g} of channel {channel}"
        counted = (str(len(one.drift)), f"{float(one.correlation.mean()):.3f}", drift)
        return (layer or "(model)", found, error, *like, *counted)

    def _most_like(self, number: int, layer: str) -> tuple[str, str]:
        """Return the most similar layer of the other model that varies, and its similarity, as cells."""
        varying = [column for column, name in enumerate(self.other_layers) if name not in self.other_constant]
        if layer in self.constant or not varying:
            return ("(constant)" if layer in self.constant else "(all constant)"), ""
        nearest = max(varying, key=lambda column: float(self.cka[number, column]))
        return self.other_layers[nearest] or "(model)", f"{float(self.cka[number, nearest]):.3f}"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the comparison to one safetensors file, and return the path.

        Raises:
            ArgumentError: the name has the suffix of another format.
            StorageError: the file cannot be written.
        """
        tensors = {"cka": self.cka, "standard_error": self.standard_error}
        for number, one in enumerate(self.channels.values()):
            tensors |= {f"{number}.{name}": getattr(one, name) for name in _TENSORS}
        for number, channel in enumerate(self.changed):
            tensors |= {f"changed.{number}.one": channel.one, f"changed.{number}.other": channel.other}
        described = {
            name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for name in _PLAIN
            for value in [getattr(self, name)]
        }
        described["channels"] = [[one.layer, one.count, one.matched_by] for one in self.channels.values()]
        described["changed"] = [[one.layer, one.channel, one.drift.hex()] for one in self.changed]
        return _ARCHIVE.write(path, tensors, {"comparison": described})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Comparison:
        """Return the comparison in a file, after comparing the checksum of every tensor.

        Raises:
            StorageError: the file is damaged, of another kind or version.
            FileNotFoundError: there is no such file.
        """
        return _ARCHIVE.read(path, _build)


_TENSORS = [one.name for one in fields(ChannelComparison) if one.name not in ("layer", "count", "matched_by")]
_PLAIN = {
    "layers": [str],
    "other_layers": [str],
    "n": int,
    "model": str,
    "other": str,
    "at": set(get_args(At)),
    "left_out": {str: str},
    "other_left_out": {str: str},
    "unmatched": {str: str},
    "constant": [str],
    "other_constant": [str],
}
_SCHEMA = {"comparison": {**_PLAIN, "channels": [(str, int, set(get_args(MatchedBy)))], "changed": [(str, int, str)]}}


def _build(description: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Comparison:
    """Return the comparison that the description and tensors of a file hold.

    Raises:
        MalformedError: they hold none.
    """
    check(description, _SCHEMA, "the description")
    held = description["comparison"]
    one_by_one = held.pop("channels"), held.pop("changed")
    names = {"cka", "standard_error"}
    names |= {f"{number}.{name}" for number in range(len(one_by_one[0])) for name in _TENSORS}
    names |= {f"changed.{number}.{side}" for number in range(len(one_by_one[1])) for side in ("one", "other")}
    if set(tensors) != names:
        raise MalformedError("the tensors are not those of a comparison")
    size = (len(held["layers"]), len(held["other_layers"]))
    if tensors["cka"].shape != size or tensors["standard_error"].shape != size:
        raise MalformedError("the similarities are not one for each pair of layers")
    channels = {
        layer: _build_channels(layer, count, matched_by, [tensors[f"{number}.{name}"] for name in _TENSORS])
        for number, (layer, count, matched_by) in enumerate(one_by_one[0])
    }
    changed = tuple(
        _build_changed(entry, tensors[f"changed.{number}.one"], tensors[f"changed.{number}.other"])
        for number, entry in enumerate(one_by_one[1])
    )
    parts = {name: _freeze(value) for name, value in held.items()}
    return Comparison(
        **parts,
        cka=tensors["cka"],
        standard_error=tensors["standard_error"],
        channels=FrozenMapping(channels),
        changed=changed,
    )


def _build_channels(layer: str, count: int, matched_by: MatchedBy, values: Sequence[torch.Tensor]) -> ChannelComparison:
    if len({value.shape for value in values}) > 1 or values[0].ndim != 1 or not len(values[0]):
        raise MalformedError(f"the tensors of layer {layer!r} are not one value for each channel")
    return ChannelComparison(
        layer=layer, count=count, matched_by=matched_by, **dict(zip(_TENSORS, values, strict=True))
    )


def _build_changed(entry: Sequence[Any], one: torch.Tensor, other: torch.Tensor) -> ChangedChannel:
    layer, channel, drift = entry
    try:
        number = float.fromhex(drift)
    except ValueError as error:
        raise MalformedError(f"{drift!r} is not a drift") from error
    if one.ndim != 2 or one.shape != other.shape:
        raise MalformedError(f"channel {channel} of layer {layer!r} has no two maps of one size")
    return ChangedChannel(layer, channel, number, one, other)


def _freeze(value: Any) -> Any:
    return FrozenMapping(value) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value
