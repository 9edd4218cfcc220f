"""One of the models of a comparison: its layers, and the Gram matrices of a batch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.comparison.joined import JoinedBatch
from spatialprobe.comparison.rows import Rows, center, gram_matrix
from spatialprobe.comparison.similarity import unbiased_center
from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.model.batch import BatchReader, Forward
from spatialprobe.model.forward import called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Layer
from spatialprobe.model.undo import undo_block
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.feed import Feeder
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.units import as_units

UseRows = Callable[[str, int, Rows], None]  # the layer, its run in this batch, and its rows


@dataclass(frozen=True)
class Settings:
    """How all models of a comparison are run."""

    at: At
    layout: LayoutChoice
    forward: Forward | None
    device: torch.device | None
    stop_early: bool


class Side:
    """One of the models of a comparison.

    Args:
        model: without wrappers that wait for other processes.
        layers: the layers to compare.
        exact: the layers that were selected by name.
        left_out: reasons why layers are left out; modified in place.
        reader: what the model takes of a batch; None where batches are read for it already.
        settings: how the model is run.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        exact: frozenset[str],
        left_out: dict[str, str],
        reader: BatchReader | None,
        settings: Settings,
    ) -> None:
        self.model = model
        self.layers = layers
        self.names = [layer.name for layer in layers]
        self.calls: Counter[str] = Counter()  # runs of each layer in the present batch
        self.device = settings.device or device_of(model)
        self.sizes: dict[str, tuple[int, ...]] = {}  # of the maps of each layer's last run
        self._left_out = left_out
        self._reader = reader
        self._grams: dict[str, torch.Tensor] = {}
        self._parts = 1  # batches that are joined to the present one
        self._waiting: dict[tuple[str, int], list[torch.Tensor]] = defaultdict(list)
        self._use: UseRows = lambda layer, call, rows: None
        takers: Mapping[str, Mapping[str, Any]] = {name: {"comparison": LayerTaker(self, name)} for name in self.names}
        self._feeder = Feeder(
            called_by(model, settings.forward),
            layers,
            takers,
            at=settings.at,
            nonfinite="error",
            advice="; sp.find_nonfinite(model, batch) finds the first layer that has such values",
            device=self.device,
            stop_early=settings.stop_early,
            layouts=Layouts(model, takers, settings.layout, exact=exact, left_out=left_out, stored=False),
            exact=exact,
            left_out=left_out,
        )

    def run(self, batch: JoinedBatch, use: UseRows) -> list[torch.Tensor | None]:
        """Run the model on a batch, and return the centered Gram matrix of each layer; None for those left out.

        Each layer's rows are passed to `use` as soon as they are known, while the model runs.
        """
        self._use, self._parts = use, len(batch.parts)
        self._grams.clear()
        self._waiting.clear()
        with undo_block() as undo:  # models may share layers, so that hooks of one must not stay while another runs
            self._feeder.attach(undo)
            for part in batch.parts:
                self.calls.clear()
                self._feeder.feed(self._read(part))
        return [
            unbiased_center(self._grams[name]) if name in self._grams and name not in self._left_out else None
            for name in self.names
        ]

    def take(self, layer: str, activation: torch.Tensor) -> None:
        """Take the activations (N, C, *units) of one run of a layer."""
        call, units = self.calls[layer], as_units(activation)
        self.sizes[layer] = tuple(activation.shape[2:])
        self.calls[layer] += 1
        if self._parts > 1:
            parts = self._waiting[layer, call]
            parts.append(units.clone())
            if len(parts) < self._parts:
                return
            units = _join(layer, parts)
        rows = center(units)
        gram = gram_matrix(rows)
        self._grams[layer] = self._grams[layer] + gram if layer in self._grams else gram
        self._use(layer, call, rows)

    def _read(self, part: Batch) -> Batch:
        return part if self._reader is None else replace(part, inputs=self._reader.part(part.inputs))


class LayerTaker:
    """Passes the activations of a layer on to its side."""

    def __init__(self, side: Side, layer: str) -> None:
        self._side = side
        self._layer = layer

    def update(self, activation: torch.Tensor, samples: torch.Tensor) -> None:
        """Take the activations (N, C, *units) of a batch."""
        self._side.take(self._layer, activation)


def _join(layer: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the activations of joined batches as one.

    Raises:
        UnsupportedOutputError: their maps differ in size.
    """
    if len({part.shape[1:] for part in parts}) > 1:
        raise UnsupportedOutputError(
            f"Batches of fewer than 4 samples are joined with their neighbors, but the maps of layer {layer!r} differ "
            "in size from one to the next: pass batches of 4 and more samples of one size."
        )
    return torch.cat(list(parts))
