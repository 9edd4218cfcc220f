"""Sweeps: one pass over a data set, in which the activations of every layer are reduced as they are computed."""

from __future__ import annotations

import os

import torch
from torch import nn

from spatialprobe.activations.probe import check_arguments
from spatialprobe.activations.records import At
from spatialprobe.arguments import as_device, as_float, as_int, check_function, check_switch
from spatialprobe.errors import ArgumentError, StorageError, UnsupportedOutputError
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import BatchReader, Forward
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.select import Selector, find_exact_names, model_name, select
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.batches import Data, Workload, source_of
from spatialprobe.statistics.distributed import TIMEOUT, join_peers
from spatialprobe.statistics.identity import settings_identity
from spatialprobe.statistics.intake import NonFinite
from spatialprobe.statistics.part import Part
from spatialprobe.statistics.progress import Shown, check_progress
from spatialprobe.statistics.reducer import Factories
from spatialprobe.statistics.result import SweepResult, freeze_results
from spatialprobe.statistics.state import SweepState


def sweep(
    model: nn.Module,
    data: Data,
    reducers: Factories,
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
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> SweepResult:
    """Run the model over all the data once, and reduce the outputs of its layers as they are computed.

    Only the state of the reducers is kept, so memory does not grow with the data. The model runs in evaluation mode,
    without gradients, on copies of the batches, and everything is restored afterwards: modes, buffers, plain
    attributes, hooks, device, random state. If a layer runs several times in a forward pass, all its outputs go to one
    reducer.

    Under `torchrun`, every process must call this. Each process takes its own share of a data set, and all return the
    same merged result; an iterable must yield each process its own share. No process group is needed, and an existing
    one is left as it is. Model, data, reducers and arguments are compared before the first batch. If one process fails
    or ends, all raise within seconds, and say which one it was.

    Args:
        model: any module.
        data: a data set or a tensor of samples; or an iterable of batches, such as a `DataLoader`.
        reducers: a mapping from names of your choice to factories, `{"moments": sp.Moments, "top":
            partial(sp.Exemplars, k=4)}`; or a list of classes, `[sp.Moments, sp.Dead]`, whose results are named
            "moments" and "dead".
        layers: the layers to sweep, as for `Probe`. Those chosen by a pattern, type or predicate that do not run for
            every batch, return no single tensor with the samples along its first axis, or are followed by no single
            nonlinearity, are left out, and `left_out` of the result says why; chosen by name they are an error.
        at: "output" or "post_activation", as for `Probe`.
        batch_size: the number of samples of a data set or tensor that run at once; iterables yield their own batches.
        device: the device on which the model runs; by default the one it is on.
        num_workers: the number of processes that load samples of a data set, as for a `DataLoader`.
        progress: whether to show a progress bar in the first process; "auto": if stderr is a terminal, or in a
            notebook.
        checkpoint: the path of a file for the state, written atomically about every `checkpoint_seconds`, and when the
            sweep ends. A sweep that finds its own checkpoint there continues from it. Processes other than the first
            append `.rank1` and so on. Reading it creates objects of the reducers' own classes only. A data set is
            identified by its length and 32 of its samples, a tensor by all of its values.
        checkpoint_seconds: the time between two writes, in seconds.
        store: the path of a folder for all activations as Zarr arrays; needs the extra `store`. See
            `statistics/store.py`.
        nonfinite: "error", or "count" to leave such values out of all statistics; `Moments` counts them.
        stop_early: whether to end each forward pass but the first once all layers have run, where each ran once in the
            first batch. Pass False for a model whose layers run once for the first batch and several times for others.
        timeout: the seconds for all processes to join the sweep, and for a sign of life of each after that. A slow
            process is waited for, and one that ends is noticed at once. A single process ignores it.
        forward: a function `(model, batch) -> output` that calls the model on a batch. By default the model is called
            on a tensor, or a list of images (C, H, W) as detectors take them, as it is; of another tuple or list on the
            first entry; of a mapping or dataclass on the entries that its `forward` names as parameters, without
            labels. If that is unclear, the error shows the function to write.
        layout: of the layers' outputs: "channels_first", (N, C, *units); "channels_last", (N, *units, C);
            `sp.Tokens(height, width, leading)`, (N, tokens, C) as a grid; or "auto", as `receptive_fields` finds it.

    The samples of a batch are counted along the first axis of its first tensor, or as the images of its list. Samples
    of a data set are collated as by a `DataLoader`; images of several sizes become a list.

    The library's reducers, and those that inherit their `update`, take (N, C, *units), whatever the layout of the
    layer: if the types and sizes of the model's modules leave the layout unclear, one pass without values follows the
    first batch, as for `receptive_fields`. Layers whose layout stays unclear are left out, and `left_out` of the result
    says why; if selected by name, they raise. Other reducers take the output as it is.

    Positions of samples (in `Exemplars`, for example) are those in the data set, also for a `DataLoader` that shuffles;
    for other iterables the i-th sample has position i, or with several processes i * processes + rank (this holds for
    loaders too, unless they have a `DistributedSampler`).

    Raises:
        ArgumentError: an argument is invalid, or the data is empty.
        LayerNotFoundError: a selector of layers matches nothing.
        LayerNotRunError: a layer does not run in some batch.
        UnresolvedActivationError: no single nonlinearity follows a layer.
        UnsupportedOutputError: a layer's output is not one tensor with the samples along its first axis; or its channel
            axis is unclear, and the layer was selected by name, or no other layer is left.
        NonFiniteActivationError: a layer's output has infinite values or NaN.
        SweepError: the data, the model or a reducer raised; or another process failed, is gone, did not join, or was
            called for another sweep.
        StorageError: checkpoint or store are damaged, belong to another sweep, or cannot be written. If only the last
            write of a finished sweep failed, the error's `result` is the result.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> found = sp.sweep(model, torch.rand(100, 3, 16, 16), {"moments": sp.Moments, "top": sp.Exemplars})
    >>> found["2"]["moments"].mean.shape, found["2"]["top"].samples.shape
    (torch.Size([12]), torch.Size([12, 9]))
    """
    with join_peers(timeout) as others:  # arguments are checked inside, so that all processes fail together
        check_arguments(model, at=(at, At), nonfinite=(nonfinite, NonFinite))
        check_layout(layout)
        check_switch(stop_early, "stop_early")
        check_progress(progress)
        as_int(batch_size, "batch_size", least=1)
        as_int(num_workers, "num_workers", least=0)
        where = as_device(device) or device_of(model)
        as_float(checkpoint_seconds, "checkpoint_seconds", least=0)
        # A DistributedDataParallel waits for all ranks, which may have different numbers of batches; a DataParallel
        # runs replicas.
        check_function(forward, "forward", "lambda model, batch: model(batch['image'])")
        inner = model.module if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else model
        with EvaluationMode(inner, device=as_device(device)):
            load = Workload(
                batch_size=batch_size,
                workers=num_workers,
                pinned=where.type == "cuda",
                rank=others.rank,
                ranks=others.size,
                reader=BatchReader.of(inner, forward),
                aligned=store is not None,
                checked=checkpoint is not None or store is not None,
            )
            chosen, exact = select(inner, layers, scripted=True), find_exact_names(inner, layers)
            part = Part(inner, source_of(data, load), load, chosen, reducers, at, nonfinite, layout, exact, forward)
            settings = {**settings_identity(where), "stop_early": stop_early, "store": store is not None}
            part.check(kept=checkpoint is not None, stores=store is not None)
            others.compare(lambda: part.terms(where, checkpoint=checkpoint, store=store))
            part.prepare(checkpoint, checkpoint_seconds, settings)
            if store is not None:
                part.open_store(store, others)
            part.run(others, where, stop_early=stop_early, progress=progress)
            whole = others.merge_all(part.state, SweepState.merge, part.form)
    if not whole.samples:
        raise ArgumentError("the data is empty: there was nothing to sweep.")
    part.seal_store(whole.samples)
    results = whole.results()
    if not results:
        raise UnsupportedOutputError(f"All layers are left out. {next(iter(whole.left_out.values()), '')}")
    result = SweepResult(
        freeze_results(results, at), whole.samples, model_name(model), at, FrozenMapping(whole.left_out)
    )
    if part.unsaved is not None:
        raise StorageError(f"{part.unsaved} The whole result is this error's `result`.", result) from part.unsaved
    return result
