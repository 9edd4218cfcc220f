"""The history of a monitored training: statistics of its layers over the steps."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from spatialprobe.activations.records import Activation
from spatialprobe.arguments import as_int, check_text, short_repr
from spatialprobe.errors import AmbiguousCallError, ArgumentError, LayerNotRunError
from spatialprobe.html_table import format_html_table
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.names import find_name, is_name
from spatialprobe.render.picture import picture_path
from spatialprobe.storage.files import target_of, write_bytes
from spatialprobe.text import describe_left_out, escape_surrogates, format_count, format_table
from spatialprobe.training.numbers import Floats, mean_of, numbers_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spatialprobe.render.evolution import Evolution

_COLUMNS = ("step", "layer", "statistic", "channel", "value")


class HistoryRow(NamedTuple):
    """What one reducer made of one layer at one step.

    >>> import spatialprobe as sp
    >>> sp.HistoryRow(step=100, layer="conv1", reducer="dead", result=sp.Dead().result()).step
    100
    """

    step: int
    layer: str
    reducer: str  # its name; that of gradients ends in ".gradient"
    result: Any  # as of a sweep, of this step alone


@dataclass(frozen=True, eq=False, repr=False)
class History(Sequence[HistoryRow]):
    """What a `Monitor` saw: a sequence of rows, by step, layer and reducer, and tables and pictures of them.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> with sp.Monitor(model, {"moments": sp.Moments}, every=2) as monitor:
    ...     for _ in range(5):
    ...         output = model(torch.rand(8, 1, 8, 8))
    >>> monitor.history.steps, monitor.history.table("moments.mean").shape
    ((0, 2, 4), (3, 1))
    >>> monitor.history
    History of Sequential: 3 steps, 0 to 4, 1 layer
      layer  moments.mean  moments.std
      0      ...
    """

    rows: tuple[HistoryRow, ...]
    model: str  # its class
    left_out: Mapping[str, str] = field(default_factory=dict)  # layer -> why nothing is known of it
    maps: Mapping[int, Mapping[str, tuple[Activation, ...]]] = field(default_factory=dict)  # step -> layer -> its runs
    layout: LayoutChoice = "auto"

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> HistoryRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HistoryRow, ...]: ...
    def __getitem__(self, index: int | slice) -> HistoryRow | tuple[HistoryRow, ...]:
        return self.rows[index]

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The sampled steps."""
        return tuple(dict.fromkeys(row.step for row in self.rows))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The layers, in the order in which they first ran."""
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    @cached_property
    def statistics(self) -> tuple[str, ...]:
        """The statistics that have one number for each channel, or one alone, as `table` takes them."""
        return tuple(name for name, dimensions in self._dimensions.items() if dimensions <= 1)

    def table(self, statistic: str) -> Floats:
        """Return a statistic over the steps, float64 (steps, layers), as its mean over the channels with a value.

        Booleans count as 0 and 1: "dead.dead" is the share of dead channels. A layer that did not run at a step, or has
        no gradient, has NaN there.

        Args:
            statistic: a name of `statistics`: that of the reducer and of a field or property of its result, such as
                "moments.std"; of gradients "moments.gradient.std".

        Raises:
            ArgumentError: there is no such statistic, or it has several numbers for each channel.
        """
        self._check_statistic(statistic)
        table = np.full((len(self.steps), len(self.layers)), np.nan)
        places = {step: i for i, step in enumerate(self.steps)}, {name: i for i, name in enumerate(self.layers)}
        for step, layer, name, values in self._numbers():
            if name == statistic:
                table[places[0][step], places[1][layer]] = mean_of(values)
        return table

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write all numbers to a CSV file, whole or not at all, and return its path.

        The columns are step, layer, statistic, channel and value; further axes of a statistic stand behind its name,
        as in "histogram.counts[5]". The channel is empty for a statistic that is a single number.

        Raises:
            ArgumentError: no file can be written there.
            StorageError: writing failed.
        """
        target = target_of(path)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for step, layer, name, values in self._numbers():
            for place in np.ndindex(values.shape):
                further = f"[{','.join(map(str, place[1:]))}]" if len(place) > 1 else ""
                channel = place[0] if place else ""
                writer.writerow((step, escape_surrogates(layer), name + further, channel, repr(float(values[place]))))
        write_bytes(target, buffer.getvalue().encode())
        return target

    def figure(
        self, statistic: str, title: str | None = None, *, width: float | None = None, dpi: float | None = None
    ) -> Figure:
        """Return a statistic over the steps as a figure: a line for each layer, and a heat map, layers by steps.

        Args:
            statistic: as for `table`.
            title: in place of the figure's own.
            width: of the page in inches; 7.2 by default.
            dpi: the dots per inch of a raster that is made from it; 100 by default.

        Raises:
            ArgumentError: there is no such statistic, or another argument cannot be used.
        """
        from spatialprobe.render.history_page import history_figure

        check_text(title, "title")
        table = self.table(statistic)
        names = [name or f"({self.model})" for name in self.layers]
        return history_figure(table, self.steps, names, statistic, title, width, dpi)

    def evolution(self, layer: str, *, call: int | None = None, **options: Any) -> Evolution:
        """Return the maps of the fixed batch at the sampled steps, of one layer, as `sp.evolution` draws them.

        Args:
            layer: the name of a layer.
            call: which of its runs, where it ran several times in a forward pass.
            options: as for `sp.evolution`, such as `sample`, `channels`, `limit` and `scale`.

        Raises:
            ArgumentError: the monitor was not given images, or an option cannot be used.
            LayerNotFoundError: there are no maps of this layer.
            AmbiguousCallError: it ran several times.
        """
        from spatialprobe.render.evolution import evolution

        return evolution(self._maps_of(layer, call), **{"layout": self.layout, **options})

    def to_gif(
        self,
        path: str | os.PathLike[str],
        layer: str,
        *,
        seconds: float = 0.4,
        call: int | None = None,
        **options: Any,
    ) -> Path:
        """Write the maps of the fixed batch as an animation, one frame a sampled step, and return its path.

        Args:
            path: of the file, whose name ends in .gif.
            layer: the name of a layer.
            seconds: how long each step is shown.
            call: as for `evolution`.
            options: as for `sp.evolution`.

        Raises:
            ArgumentError: the name has another suffix, or as for `evolution`.
            StorageError: writing failed.
        """
        picture_path(path, (".gif",))
        return self.evolution(layer, call=call, **options).save(path, seconds=seconds)

    def _maps_of(self, layer: str, call: int | None) -> dict[str, Activation]:
        """Return the records of a layer, by the names of the steps."""
        if not self.maps:
            raise ArgumentError(
                "There are no maps: pass the monitor a fixed batch, images=, to keep its maps at the sampled steps."
            )
        names = list(dict.fromkeys(name for found in self.maps.values() for name in found))
        name = find_name(layer, names, "There are no maps of layer")
        return {
            f"step {step}": _choose_run(found[name], name, call) for step, found in self.maps.items() if name in found
        }

    @cached_property
    def _dimensions(self) -> dict[str, int]:
        """The number of axes of each statistic, the first of which counts channels."""
        return {name: values.ndim for _, _, name, values in self._numbers()}

    def _numbers(self) -> Iterator[tuple[int, str, str, Floats]]:
        """Yield step, layer, the name of a statistic, and its values, a row at a time."""
        for row in self.rows:
            for part, values in numbers_of(row.result).items():
                yield row.step, row.layer, f"{row.reducer}.{part}" if part else row.reducer, values

    def _check_statistic(self, statistic: str) -> None:
        if not is_name(statistic) or statistic not in self.statistics:
            known = ", ".join(map(repr, self.statistics)) or "none"
            problem = f"statistic must be one of {known}, not {short_repr(statistic)}."
            if not self.rows:
                problem = "The history is empty: no step was sampled."
            elif is_name(statistic) and self._dimensions.get(statistic, 0) > 1:
                problem = f"{statistic!r} has several numbers for each channel, so it has no table. {problem}"
            raise ArgumentError(problem)

    def _lines(self) -> tuple[str, list[tuple[str, ...]], list[str]]:
        """Return the parts of the tables: a heading, the rows, and remarks."""
        steps = f", {self.steps[0]} to {self.steps[-1]}" if len(self.steps) > 1 else ""
        heading = (
            f"History of {self.model}: {format_count(len(self.steps), 'step')}{steps}, "
            f"{format_count(len(self.layers), 'layer')}"
        )
        shown = [name for name in self.statistics if name.rpartition(".")[2] in _TOLD]
        tables = [self.table(name) for name in shown]
        rows = [
            (name or "(model)", *(_describe_change(table[:, at]) for table in tables))
            for at, name in enumerate(self.layers)
        ]
        return heading, [("layer", *shown), *rows], list(filter(None, [describe_left_out(self.left_out)]))

    def __repr__(self) -> str:
        heading, rows, remarks = self._lines()
        return "\n".join([format_table(heading, rows if self.rows else [("(empty)",)]), *remarks])

    def _repr_html_(self) -> str:
        """A table for a notebook."""
        heading, rows, remarks = self._lines()
        return format_html_table(heading, rows[0], rows[1:], remarks=remarks)

    def __reduce__(self) -> tuple[Any, ...]:
        maps = {step: dict(found) for step, found in self.maps.items()}  # frozen mappings of mappings
        return History, (self.rows, self.model, dict(self.left_out), maps, self.layout)


_TOLD = ("mean", "std", "dead", "")  # the statistics of which a repr says how they changed


def _choose_run(runs: tuple[Activation, ...], layer: str, call: int | None) -> Activation:
    if call is None:
        if len(runs) > 1:
            raise AmbiguousCallError(
                f"Layer {layer!r} ran {len(runs)} times. Pass call=, from 0 to {len(runs) - 1}, for one run."
            )
        return runs[0]
    index = as_int(call, "call", least=0)
    if index >= len(runs):
        raise LayerNotRunError(f"Layer {layer!r} ran {format_count(len(runs), 'time')}: there is no run {index}.")
    return runs[index]


def _describe_change(values: Floats) -> str:
    """Return the first and the last known value."""
    known = values[~np.isnan(values)]
    if not known.size:
        return "none"
    return f"{known[0]:.4g}" if known.size == 1 else f"{known[0]:.4g} to {known[-1]:.4g}"


def make_history(
    rows: Sequence[HistoryRow],
    model: str,
    left_out: Mapping[str, str],
    maps: Mapping[int, Mapping[str, tuple[Activation, ...]]],
    layout: LayoutChoice,
) -> History:
    """Return a history that cannot be changed."""
    return History(tuple(rows), model, FrozenMapping(left_out), FrozenMapping(maps), layout)
