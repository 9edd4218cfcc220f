"""The run of a comparison in one process: its models, the state they add to, and what identifies both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from spatialprobe.comparison.examples import add_examples
from spatialprobe.comparison.joined import JoinedBatch, JoinedBatches
from spatialprobe.comparison.pairs import Pairs
from spatialprobe.comparison.result import Comparison
from spatialprobe.comparison.side import Settings, Side
from spatialprobe.comparison.state import ComparisonFormat, ComparisonState, PairState
from spatialprobe.errors import UnsupportedOutputError
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.select import Layer, Selector, find_exact_names, model_name, select, unwrap
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.batches import Batch, Progress, Workload, source_of
from spatialprobe.statistics.distributed import Peers
from spatialprobe.statistics.identity import forward_identity, model_identity, settings_identity
from spatialprobe.statistics.loop import BatchLoop
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.terms import Terms, code_of, modules_of, settings_of, weights_of
from spatialprobe.storage.checksum import digest


@dataclass(frozen=True)
class Compared:
    """A model to be compared, with its layers."""

    model: nn.Module
    layers: list[Layer]
    exact: frozenset[str]

    @staticmethod
    def of(model: nn.Module, selector: Selector, called: str = "layers") -> Compared:
        """Return a model with the layers that a selector matches."""
        return Compared(model, select(model, selector, called), find_exact_names(model, selector))

    def is_same(self, other: Compared) -> bool:
        """Return whether this is the same model with the same layers, so that it need not run twice."""
        same = unwrap(self.model) is unwrap(other.model)
        return same and [layer.module for layer in self.layers] == [layer.module for layer in other.layers]

    @property
    def names(self) -> list[str]:
        """The names of the layers."""
        return [layer.name for layer in self.layers]


class Run:
    """The run of a comparison in one process.

    Args:
        compared: one model, then the others.
        data: as the user passed it.
        load: how it becomes batches.
        readers: of each model, what it takes of a batch; None where batches are read for all of them alike.
        settings: how the models are run.
    """

    def __init__(
        self,
        compared: Sequence[Compared],
        data: Any,
        load: Workload,
        readers: Sequence[BatchReader | None],
        settings: Settings,
    ) -> None:
        self._one, *self._others = compared
        self._data = data
        self._load = load
        self._settings = settings
        self._source = JoinedBatches(source_of(data, load))
        names = self._one.names
        state = ComparisonState([PairState.of(names, other.names) for other in self._others])
        self.form = ComparisonFormat(state)
        self.loop = BatchLoop[ComparisonState](self._source, state, "comparison")
        self._readers = readers
        self._device = settings.device or device_of(self._one.model)
        self._first: JoinedBatch | None = None  # of an iterable, for the maps of examples

    def compare(self, peers: Peers, progress: Shown) -> ComparisonState:
        """Run the models on this process's share of the data, and return the sums of all processes."""
        state = self.loop.state
        self._side = self._make_side(0, self._one, state.left_out)
        self._sides = [
            None if other.is_same(self._one) else self._make_side(number, other, pair.left_out)
            for number, (other, pair) in enumerate(zip(self._others, state.pairs, strict=True), 1)
        ]
        pairs = Pairs(self._side, self._sides)

        def feed(batch: Batch) -> None:
            if self._source.rows is None and self._load.ranks == 1 and isinstance(batch, JoinedBatch):
                self._first = self._first or batch
            pairs.add(state, batch, self._number(batch))

        self.loop.run(feed, peers, progress)
        whole = peers.merge_all(state, ComparisonState.merge, self.form)
        for pair, other in zip(whole.pairs, self._sides, strict=True):
            if other is None:
                pair.left_out = whole.left_out
        return whole

    def results(self, whole: ComparisonState) -> list[Comparison]:
        """Return the comparison with each of the others, with the maps of the channels that changed most.

        Raises:
            UnsupportedOutputError: no layer is left.
        """
        found = [self._result(whole, *pair) for pair in zip(whole.pairs, self._others, strict=True)]
        batch = self._example()
        return found if batch is None else add_examples(found, batch, self._side, self._sides)

    def _result(self, whole: ComparisonState, pair: PairState, other: Compared) -> Comparison:
        cka, error = pair.similarity.result()
        constant, other_constant = pair.similarity.constant()
        rows = [i for i, name in enumerate(self._one.names) if name not in whole.left_out]
        columns = [i for i, name in enumerate(other.names) if name not in pair.left_out]
        for indices, left_out in ((rows, whole.left_out), (columns, pair.left_out)):
            if not indices:
                raise UnsupportedOutputError(f"All layers are left out. {next(iter(left_out.values()), '')}")
        left = {**whole.left_out, **pair.left_out}
        channels = {
            layer: sums.result(layer)
            for layer, sums in pair.channels.items()
            if not (layer in left or layer in pair.unmatched or sums.is_empty)
        }
        return Comparison(
            layers=tuple(self._one.names[i] for i in rows),
            other_layers=tuple(other.names[i] for i in columns),
            cka=cka[rows][:, columns],
            standard_error=error[rows][:, columns],
            n=whole.samples,
            channels=FrozenMapping(channels),
            model=model_name(self._one.model),
            other=model_name(other.model),
            at=self._settings.at,
            left_out=FrozenMapping(whole.left_out),
            other_left_out=FrozenMapping(pair.left_out),
            unmatched=FrozenMapping(pair.unmatched),
            constant=tuple(self._one.names[i] for i in rows if constant[i]),
            other_constant=tuple(other.names[i] for i in columns if other_constant[i]),
        )

    def _make_side(self, number: int, compared: Compared, left_out: dict[str, str]) -> Side:
        return Side(compared.model, compared.layers, compared.exact, left_out, self._readers[number], self._settings)

    def _number(self, batch: Batch) -> int:
        """Return the number of a batch over all processes."""
        if self._source.rows is None:
            return batch.number * self._load.ranks + self._load.rank
        return batch.row // self._load.batch_size

    def _example(self) -> JoinedBatch | None:
        """Return a batch whose first sample is the first of the data; None if it is gone."""
        if self._source.rows is not None:
            again = JoinedBatches(source_of(self._data, replace(self._load, rank=0, ranks=1, workers=0)))
            batch, _ = next(again.batches(Progress()))
            self._first = batch if isinstance(batch, JoinedBatch) else None
        return self._first

    def terms(self, checkpoint: object) -> Terms:
        """Return the terms that this run must have in common with those of other processes."""
        parts: dict[str, dict[str, str]] = {
            "": {
                "batch_size=": str(self._load.batch_size),
                "seed=": str(self._load.seed),
                "at=": repr(self._settings.at),
                "layout=": repr(self._settings.layout),
                "forward=": code_of(self._settings.forward),
                "the number of models": str(1 + len(self._others)),
                "checkpoint=": "a path" if checkpoint is not None else "None",
                **settings_of(self._device),
            },
            "the data:": self._source.terms(),
        }
        for number, compared in enumerate([self._one, *self._others]):
            of = f" of model {number}"
            parts[f"the layers{of}"] = {layer.name: type(layer.module).__name__ for layer in compared.layers}
            parts[f"the modules{of}"] = modules_of(compared.model)
            parts[f"the weights{of}"] = weights_of(compared.model)
        return Terms(parts)

    def identity(self) -> dict[str, object]:
        """Return what identifies the comparison for its checkpoint."""
        return {
            **settings_identity(self._device),
            "stop_early": self._settings.stop_early,
            **model_identity(self._one.model),
            **forward_identity(self._settings.forward),
            "others": [digest(repr(_identity_of(other)).encode()) for other in self._others],
            "data": self._source.identity(),
            "layers": self._one.names,
            "at": self._settings.at,
            "layout": str(self._settings.layout),
            "batch_size": self._load.batch_size,
            "seed": self._load.seed,
            "processes": [self._load.rank, self._load.ranks],
        }


def _identity_of(compared: Compared) -> object:
    return [sorted(model_identity(compared.model).items()), compared.names]
