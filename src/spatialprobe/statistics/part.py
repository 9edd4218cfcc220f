"""One process's part of a sweep: its share of the data, its reducers, and the checkpoint and store it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.errors import ArgumentError, SpatialProbeError, StorageError, SweepError, add_note
from spatialprobe.model.batch import Forward
from spatialprobe.model.forward import called_by
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Layer, model_name
from spatialprobe.model.undo import undo_block
from spatialprobe.statistics.batches import Batch, Progress, Source, Workload, read_batches
from spatialprobe.statistics.checkpoint import Checkpoint, checkpoint_path
from spatialprobe.statistics.distributed import Peers
from spatialprobe.statistics.feed import Feeder
from spatialprobe.statistics.identity import describe, forward_identity, model_identity
from spatialprobe.statistics.intake import NonFinite
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.progress import Shown, progress_bar
from spatialprobe.statistics.reducer import Factories, create_reducers
from spatialprobe.statistics.state import StateFormat, SweepState
from spatialprobe.statistics.store import Store
from spatialprobe.statistics.terms import Terms, code_of, modules_of, reducers_of, settings_of, weights_of
from spatialprobe.storage.checksum import digest
from spatialprobe.storage.files import shown_path
from spatialprobe.text import format_count


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
        self._kinds = create_reducers(reducers)  # one of each, to identify them by
        self.state = SweepState({layer.name: create_reducers(reducers) for layer in layers})
        self._progress = Progress()  # the progress of the state
        self._whole = True  # whether the state contains whole batches only
        self._continues = self._finished = False  # whether there was a checkpoint, and of a finished sweep
        self.unsaved: StorageError | SweepError | None = None  # why the final state could not be written
        self.form: StateFormat | None = None  # the format of the state, if it must be written
        self._checkpoint: Checkpoint | None = None
        self._store: Store | None = None
        self._stored: list[str] = []  # the groups in the store when the checkpoint was written
        self._about: dict[str, object] = {}  # the identity of the checkpoint or store

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
        self._checkpoint = Checkpoint(path, seconds, {**self._about, **self._own_identity()}, self.form)
        found = self._checkpoint.load()
        if found is not None:
            self.state, self._finished, self._continues = found.state, found.finished, True
            self._progress, self._stored = found.progress, found.stored
        if not self._finished:  # if it cannot be written, fail before any work is done
            self._checkpoint.save(self.state, self._progress, stored=self._stored)

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
        done = range(self._source.first, self._source.first + self._progress.samples)
        store.open(continues=self._continues, groups=self._stored, done=done)
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
        shown = progress if others.rank == 0 else False
        try:
            with (
                undo_block() as undo,
                progress_bar(shown, done=self._progress.samples, total=self._source.count) as bar,
            ):
                feeder.attach(undo)
                for batch, reached in self._batches():
                    self._whole = False
                    feeder.feed(batch)
                    self._progress, self.state.samples, self._whole = reached, reached.samples, True
                    bar.update(len(batch.samples))
                    if self._checkpoint is not None and self._checkpoint.is_due():
                        self._save(self._checkpoint)
                    others.after_batch()
            if self._store is not None:
                self._store.close(self._progress.samples)
        except BaseException as error:
            self._end_early(error)
            raise
        if self._checkpoint is not None and not self._finished:
            try:
                self._save(self._checkpoint, finished=True)
            except (StorageError, SweepError) as error:
                self.unsaved = error

    def seal_store(self, samples: int) -> None:
        """Mark the store as complete, once every process has written its share."""
        if self._store is not None and self._load.rank == 0:
            try:
                self._store.seal(samples)
            except StorageError as error:
                self.unsaved = error

    def _save(self, checkpoint: Checkpoint, *, finished: bool = False) -> None:
        stored = self._store.groups if self._store is not None else []
        checkpoint.save(self.state, self._progress, finished=finished, stored=stored)

    def _end_early(self, error: BaseException) -> None:
        """Write the state after an exception, and add a note to an interrupt on where the state is."""
        self._save_after(error)
        if not isinstance(error, Exception):
            add_note(error, self._describe_kept())

    def _describe_kept(self) -> str:
        """Return a sentence on the saved state of an interrupted sweep, and on how to continue it."""
        checkpoint, samples = self._checkpoint, format_count(self._progress.samples, "sample")
        if checkpoint is None:
            return (
                f"The sweep ended after {samples}, of which nothing is kept: with checkpoint='sweep.state' a sweep "
                "that was interrupted continues when it is run again."
            )
        kept = format_count(checkpoint.written.samples if checkpoint.written else 0, "sample")
        return (
            f"The sweep ended after {samples}; its state after {kept} is in {shown_path(checkpoint.path)}: run the "
            "same sweep again to continue there."
        )

    def _save_after(self, error: BaseException) -> None:
        """Write the state after an exception, unless it includes part of a batch, or may be inconsistent."""
        checkpoint = self._checkpoint
        if checkpoint is None or not checkpoint.usable or not self._whole or checkpoint.written == self._progress:
            return
        try:
            self._save(checkpoint)
        except SpatialProbeError as unsaved:
            add_note(error, str(unsaved))

    def _batches(self) -> Iterator[tuple[Batch, Progress]]:
        """Yield the remaining batches; errors that the data raises name the batch."""
        for item in read_batches(self._source, self._progress):
            if self._finished:
                raise StorageError(
                    f"The checkpoint is of a finished sweep of {self._progress.batches} batches, but the data has "
                    "more: it is other data. Delete the checkpoint to start again."
                )
            yield item

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
