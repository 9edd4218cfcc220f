"""One process's part of a sweep: its share of the data, its reducers, and the checkpoint and store it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.errors import ArgumentError, StorageError, SweepError
from spatialprobe.model.batch import Forward
from spatialprobe.model.forward import called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Layer, model_name
from spatialprobe.model.undo import Undo
from spatialprobe.statistics.batches import Source, Workload
from spatialprobe.statistics.checkpoint import Checkpoint, checkpoint_path
from spatialprobe.statistics.distributed import Peers
from spatialprobe.statistics.feed import Feeder
from spatialprobe.statistics.identity import describe, forward_identity, model_identity
from spatialprobe.statistics.intake import NonFinite
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.loop import BatchLoop
from spatialprobe.statistics.progress import Shown
from spatialprobe.statistics.reducer import Factories, create_layers
from spatialprobe.statistics.state import StateFormat, SweepState
from spatialprobe.statistics.store import Store
from spatialprobe.statistics.terms import Terms, code_of, modules_of, reducers_of, settings_of, weights_of
from spatialprobe.storage.checksum import digest


class Part:
    """One process's part of a sweep."""

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        load: Workload,
        layers: Sequence[Layer],
        reducers: Factories,
        at: At,
        nonfinite: NonFinite,
        layout: LayoutChoice,
        exact: frozenset[str],
        forward: Forward | None = None,
    ) -> None:
        self._model = model
        self._forward = forward
        self._source = source
        self._load = load
        self._layers = layers
        self._at = at
        self._nonfinite = nonfinite
        self._layout = layout
        self._exact = exact  # the layers that were selected by name
        names = [layer.name for layer in layers]
        self._kinds = next(iter(create_layers(reducers, names[:1]).values()))  # one of each, to identify them by
        self._loop = BatchLoop(source, SweepState(create_layers(reducers, names)))
        self.form: StateFormat | None = None  # the format of the state, if it must be written
        self._store: Store | None = None
        self._about: dict[str, object] = {}  # the identity of the checkpoint or store

    @property
    def state(self) -> SweepState:
        """The reducers, and what they have seen."""
        return self._loop.state

    @property
    def unsaved(self) -> StorageError | SweepError | None:
        """The error because of which the final state could not be written, None if it was."""
        return self._loop.unsaved

    def check(self, *, kept: bool, stores: bool) -> None:
        """Check that the sweep has a result, and that its reducers can be written if they must be.

        Raises:
            ArgumentError: there are neither reducers nor a store, or a reducer cannot be written and read back.
        """
        if not self._kinds and not stores:
            raise ArgumentError("reducers is empty, and there is no store=: this sweep would have no result. Pass one.")
        if kept or self._load.ranks > 1:
            self.form = StateFormat(self.state.reducers, self._kinds, next(iter(self.state.reducers.values())))

    def prepare(
        self, checkpoint: str | os.PathLike[str] | None, seconds: float, settings: Mapping[str, object]
    ) -> None:
        """Load the checkpoint, if there is one, to continue from it."""
        if not self._load.checked:
            return
        self._about = self._identity(settings)
        if checkpoint is None or self.form is None:
            return
        path = checkpoint_path(checkpoint, self._load.rank)
        self._loop.continue_from(Checkpoint(path, seconds, {**self._about, **self._own_identity()}, self.form))

    def terms(self, device: torch.device, **paths: object) -> Terms:
        """Return the terms that this part must have in common with those of other processes."""
        given = {f"{name}=": "a path" if path is not None else "None" for name, path in paths.items()}
        return Terms(
            {
                "": {
                    "batch_size=": str(self._load.batch_size),
                    "at=": repr(self._at),
                    "nonfinite=": repr(self._nonfinite),
                    "layout=": repr(self._layout),
                    "forward=": code_of(self._forward),
                    **given,
                    **settings_of(device),
                },
                "the layers": {layer.name: type(layer.module).__name__ for layer in self._layers},
                "the modules": modules_of(self._model),
                "the weights": weights_of(self._model),
                "the reducers": reducers_of(self._kinds),
                "the data:": self._source.terms(),
            }
        )

    def open_store(self, path: str | os.PathLike[str], others: Peers) -> None:
        """Open the store: the first process creates it if needed, then the others open it."""
        if self._source.rows is None and self._load.ranks > 1:
            raise ArgumentError(
                "store= with an iterable works in one process only, since the number of samples of the other "
                "processes is unknown. Pass the data set itself."
            )
        store = Store(
            path,
            model=model_name(self._model),
            at=self._at,
            identity=digest(repr((sorted(self._about.items()), self._load.batch_size)).encode()),
            batch_size=self._load.batch_size,
            rows=self._source.rows,
            rank=others.rank,
        )
        if others.rank > 0:
            others.meet()
        done = range(self._source.first, self._source.first + self._loop.progress.samples)
        store.open(continues=self._loop.continues, groups=self._loop.stored, done=done)
        if others.rank == 0:
            others.meet()
        self._store = store

    def run(self, others: Peers, device: torch.device, *, stop_early: bool, progress: Shown) -> None:
        """Reduce this process's share of the data."""
        feeder = Feeder(
            called_by(self._model, self._forward),
            self._layers,
            self.state.reducers,
            at=self._at,
            nonfinite=self._nonfinite,
            advice="; or pass nonfinite='count' to leave such values out of the statistics, where Moments counts them",
            device=device,
            stop_early=stop_early,
            layouts=Layouts(
                self._model,
                self.state.reducers,
                self._layout,
                exact=self._exact,
                left_out=self.state.left_out,
                stored=self._store is not None,
            ),
            writer=self._store,
            exact=self._exact,
            left_out=self.state.left_out,
        )

        def prepare(undo: Undo) -> None:
            if self._store is not None:
                undo.add(self._store.end_writing)
            feeder.attach(undo)

        self._loop.run(
            feeder.feed,
            others,
            progress,
            prepare=prepare,
            close=self._close_store,
            groups=lambda: self._store.groups if self._store is not None else [],
        )

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close(self._loop.progress.samples)

    def seal_store(self, samples: int) -> None:
        """Mark the store as complete, once every process has written its share."""
        if self._store is not None and self._load.rank == 0:
            try:
                self._store.seal(samples)
            except StorageError as error:
                self._loop.unsaved = error

    def _identity(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return the identity of a store."""
        return {
            **settings,
            **model_identity(self._model),
            **forward_identity(self._forward),
            "data": self._source.identity(),
            "layers": [layer.name for layer in self._layers],
            "at": self._at,
            "layout": str(self._layout),
        }

    def _own_identity(self) -> dict[str, object]:
        """Return the identity that a checkpoint has in addition to that of a store."""
        return {
            "nonfinite": self._nonfinite,
            "reducers": {name: describe(reducer) for name, reducer in self._kinds.items()},
            "processes": [self._load.rank, self._load.ranks],
        }
