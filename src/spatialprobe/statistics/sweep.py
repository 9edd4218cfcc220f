"""One pass over a data set, in which every layer's activations are reduced as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from spatialprobe.activations.probe import check_arguments
from spatialprobe.activations.records import At
from spatialprobe.arguments import check_switch, device_named, real_number, whole_number
from spatialprobe.errors import ArgumentError, SpatialProbeError, StorageError, SweepError, told
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.select import Layer, Selector, model_name, select
from spatialprobe.model.undo import undoing
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.batches import Batch, Data, Progress, Source, Workload, source_of
from spatialprobe.statistics.checkpoint import Checkpoint, checkpoint_path
from spatialprobe.statistics.distributed import TIMEOUT, Peers, peers
from spatialprobe.statistics.feed import Feeder, NonFinite
from spatialprobe.statistics.identity import describe, model_identity, settings_identity
from spatialprobe.statistics.progress import Shown, bar
from spatialprobe.statistics.reducer import Factory, fresh
from spatialprobe.statistics.result import SweepResult, frozen_results
from spatialprobe.statistics.state import StateFormat, SweepState
from spatialprobe.statistics.store import Store
from spatialprobe.statistics.terms import Terms, modules_of, reducers_of, settings_of, weights_of
from spatialprobe.storage.checksum import digest


def sweep(
    model: nn.Module,
    data: Data,
    reducers: Mapping[str, Factory],
    *,
    layers: Selector = nn.Conv2d,
    at: At = "output",
    batch_size: int = 64,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    progress: Shown = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    store: str | os.PathLike[str] | None = None,
    nonfinite: NonFinite = "error",
    stop_early: bool = True,
    timeout: float = TIMEOUT,
) -> SweepResult:
    """Run the model over all the data once, and reduce what its layers hand on, as they hand it on.

    Nothing is copied or kept but what the reducers keep, so memory does not grow with the data. The model runs in
    evaluation mode, without gradients, on copies of the batches, and everything is restored afterwards: modes,
    buffers, plain attributes, hooks, device, random state. A layer that runs several times in a forward feeds one
    reducer.

    Under `torchrun`, where every process must call this, each takes its own share of a data set, and all return
    the same merged result; an iterable must bring each process its own. They need no process group, and leave one that
    is there alone. Model, data, reducers and arguments are compared before the first batch. If one process fails or
    ends, all do within seconds, and say which.

    Args:
        model: any module that takes one tensor of samples along its first axis.
        data: a data set or a tensor of samples; or an iterable of batches, each a tensor or a tuple whose first entry
            is one, such as a `DataLoader`.
        reducers: for each name of your choice a factory: `{"moments": sp.Moments, "top": partial(sp.Exemplars, k=4)}`.
        layers: as for `Probe`; each must run for every batch.
        at: "output" or "post_activation", as for `Probe`.
        batch_size: samples of a data set or tensor that run at once; iterables make their own batches.
        device: where the model runs; by default where it is.
        num_workers: processes that load a data set's samples; as in a `DataLoader`.
        progress: whether a bar is shown; "auto": if somebody looks, and in the first process only.
        checkpoint: a file for the state, written whole about every `checkpoint_seconds`, and when the sweep ends.
            A sweep that finds its own file there continues it. Other processes than the first add `.rank1` and so on.
            Reading it makes objects of the reducers' own classes only. A data set is known by its length and 32 of its
            samples, a tensor by all of it.
        checkpoint_seconds: the time between two writes.
        store: a folder for all activations as Zarr arrays; needs the extra `store`. See `statistics/store.py`.
        nonfinite: "error", or "count" to leave such values out of all statistics; `Moments` counts them.
        stop_early: end each forward but the first where all layers have run. Leave it off for a model whose layers
            run more often for some inputs than for the first batch.
        timeout: seconds for all processes to come to the sweep, and for a sign of life of each from then on: however
            slow one is, it is waited for. One that ends is noticed at once. No matter in one process alone.

    Channels are axis 1 of what a layer hands on, (N, C, *units); of tokens (N, tokens, channels) the reducers take the
    tokens for channels.

    Positions (of `Exemplars`, say) are those in the data set, also for a `DataLoader` that shuffles one; for other
    iterables the i-th sample has position i, and with several processes i * processes + rank (so too for a loader
    there, unless it has a `DistributedSampler`).

    Raises:
        ArgumentError: an argument cannot be used, or the data is empty.
        LayerNotFoundError: a selector of layers matches nothing.
        LayerNotRunError: a layer does not run in some batch.
        UnresolvedActivationError: no single nonlinearity follows a layer.
        UnsupportedOutputError: a layer's output is not one tensor with the samples along its first axis.
        NonFiniteActivationError: a layer handed on infinite values or NaN.
        SweepError: the data, the model or a reducer raised; or another process failed, is gone, did not come, or was
            called for another sweep.
        StorageError: checkpoint or store are damaged, or of another sweep, or cannot be written. When only the last
            write of a whole sweep failed, the error's `result` is the result.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> found = sp.sweep(model, torch.rand(100, 3, 16, 16), {"moments": sp.Moments, "top": sp.Exemplars})
    >>> found["2"]["moments"].mean.shape, found["2"]["top"].samples.shape
    (torch.Size([12]), torch.Size([12, 9]))
    """
    with peers(timeout) as others:  # arguments are checked where all processes learn of it
        check_arguments(model, at=(at, At), nonfinite=(nonfinite, NonFinite))
        check_switch(stop_early, "stop_early")
        if not (isinstance(progress, str) and progress == "auto"):
            check_switch(progress, "progress")
        whole_number(batch_size, "batch_size", least=1)
        whole_number(num_workers, "num_workers", least=0)
        where = device_named(device) or device_of(model)
        real_number(checkpoint_seconds, "checkpoint_seconds", least=0)
        # The forward of a DistributedDataParallel waits for all ranks, and these may have different numbers of batches.
        inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        with EvaluationMode(inner, device=device_named(device)):
            load = Workload(
                batch_size=batch_size,
                workers=num_workers,
                pinned=where.type == "cuda",
                rank=others.rank,
                ranks=others.size,
                aligned=store is not None,
                checked=checkpoint is not None or store is not None,
            )
            part = _Part(inner, source_of(data, load), load, select(inner, layers), reducers, at, nonfinite)
            settings = {**settings_identity(where), "stop_early": stop_early, "store": store is not None}
            part.check(kept=checkpoint is not None, stores=store is not None)
            others.compare(lambda: part.terms(where, checkpoint=checkpoint, store=store))
            part.prepare(checkpoint, checkpoint_seconds, settings)
            if store is not None:
                part.open_store(store, others)
            part.run(others, where, stop_early=stop_early, progress=progress)
            whole = others.merged(part.state, SweepState.merge, part.form)
    if not whole.samples:
        raise ArgumentError("the data is empty: there was nothing to sweep.")
    result = SweepResult(frozen_results(whole.results()), whole.samples, model_name(model), at)
    if part.unsaved is not None:
        raise StorageError(f"{part.unsaved} The whole result is this error's `result`.", result) from part.unsaved
    return result


class _Part:
    """One process's part of a sweep."""

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        load: Workload,
        layers: Sequence[Layer],
        reducers: Mapping[str, Factory],
        at: At,
        nonfinite: NonFinite,
    ) -> None:
        self._model = model
        self._source = source
        self._load = load
        self._layers = layers
        self._at = at
        self._nonfinite = nonfinite
        self._kinds = fresh(reducers)  # one of each, to be described
        self.state = SweepState({layer.name: fresh(reducers) for layer in layers})
        self._progress = Progress()  # how far the state is
        self._whole = True  # whether the state is that after whole batches
        self._continues = self._finished = False  # whether the checkpoint was there, and whole
        self.unsaved: StorageError | SweepError | None = None  # why the whole state is not in the checkpoint
        self.form: StateFormat | None = None  # in which the state is written, where it must be
        self._checkpoint: Checkpoint | None = None
        self._store: Store | None = None
        self._about: dict[str, object] = {}  # what a checkpoint or store is known by

    def check(self, *, kept: bool, stores: bool) -> None:
        """Check that something can come of the reducers, and that they can be written where they must be."""
        if not self._kinds and not stores:
            raise ArgumentError("reducers is empty, and there is no store=: nothing would come of this sweep.")
        if kept or self._load.ranks > 1:
            self.form = StateFormat(self.state.reducers, self._kinds, next(iter(self.state.reducers.values())))

    def prepare(
        self, checkpoint: str | os.PathLike[str] | None, seconds: float, settings: Mapping[str, object]
    ) -> None:
        """Find out where to begin: at the start, or where a checkpoint ends."""
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
            self._progress = found.progress
        if not self._finished:  # where it cannot be written, nothing is lost yet
            self._checkpoint.save(self.state, self._progress)

    def terms(self, device: torch.device, **paths: object) -> Terms:
        """Return what this part must have in common with those of other processes."""
        given = {f"{name}=": "a path" if path is not None else "None" for name, path in paths.items()}
        return Terms(
            {
                "": {
                    "batch_size=": str(self._load.batch_size),
                    "at=": repr(self._at),
                    "nonfinite=": repr(self._nonfinite),
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
        """Make the store, or find it: the first process does, then the others find what it made."""
        if self._source.rows is None and self._load.ranks > 1:
            raise ArgumentError(
                "store= with an iterable works in one process: nobody knows how many samples the others bring. "
                "Give the data set itself."
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
        store.open(continues=self._continues, begun=self._progress.batches > 0)
        if others.rank == 0:
            others.meet()
        self._store = store

    def run(self, others: Peers, device: torch.device, *, stop_early: bool, progress: Shown) -> None:
        """Reduce this process's share of the data."""
        feeder = Feeder(
            self._model,
            self._layers,
            self.state.reducers,
            at=self._at,
            nonfinite=self._nonfinite,
            device=device,
            stop_early=stop_early,
            writer=self._store,
        )
        shown = progress if others.rank == 0 else False
        try:
            with (
                undoing() as undo,
                bar(shown, done=self._progress.samples, total=self._source.count) as told_of,
            ):
                feeder.attach(undo)
                for batch, reached in self._batches():
                    self._whole = False
                    feeder.feed(batch)
                    self._progress, self.state.samples, self._whole = reached, reached.samples, True
                    told_of.update(len(batch.samples))
                    if self._checkpoint is not None:
                        self._checkpoint.save_when_due(self.state, self._progress)
                    others.after_batch()
            if self._store is not None:
                self._store.close(self._progress.samples)
        except BaseException as error:
            self._save_after(error)
            raise
        if self._checkpoint is not None and not self._finished:
            try:
                self._checkpoint.save(self.state, self._progress, finished=True)
            except (StorageError, SweepError) as error:
                self.unsaved = error

    def _save_after(self, error: BaseException) -> None:
        """Write the state after whatever ended the sweep, unless it is half of a batch's, or may be torn."""
        checkpoint = self._checkpoint
        if checkpoint is None or not checkpoint.usable or not self._whole or checkpoint.written == self._progress:
            return
        try:
            checkpoint.save(self.state, self._progress)
        except SpatialProbeError as unsaved:
            if hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(str(unsaved))

    def _batches(self) -> Iterator[tuple[Batch, Progress]]:
        """The batches still to do; whatever the data raises says after which batch."""
        batches = self._source.batches(self._progress)
        while True:
            try:
                item = next(batches, None)
            except SweepError as error:
                raise SweepError(f"{error} This was for batch {self._progress.batches}.") from error
            except SpatialProbeError:
                raise
            except Exception as error:
                raise SweepError(f"The data raised {told(error)} at batch {self._progress.batches}.") from error
            if item is None:
                return
            if self._finished:
                raise StorageError(
                    f"The checkpoint is of a whole sweep of {self._progress.batches} batches, the data has more: it "
                    "is other data. Delete the checkpoint to start afresh."
                )
            yield item

    def _identity(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return what a store must be known by."""
        return {
            **settings,
            **model_identity(self._model),
            "data": self._source.identity(),
            "layers": [layer.name for layer in self._layers],
            "at": self._at,
        }

    def _own_identity(self) -> dict[str, object]:
        """Return what a checkpoint must be known by beside that."""
        return {
            "nonfinite": self._nonfinite,
            "reducers": {name: describe(reducer) for name, reducer in self._kinds.items()},
            "processes": [self._load.rank, self._load.ranks],
        }
