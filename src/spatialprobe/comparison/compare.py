"""Comparing two models, two checkpoints, or a model with itself, in one pass over the data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import overload

import torch
from torch import nn

from spatialprobe.activations.probe import check_arguments
from spatialprobe.activations.records import At
from spatialprobe.arguments import as_device, as_float, as_int, check_function, check_switch, short_repr
from spatialprobe.comparison.joined import LEAST
from spatialprobe.comparison.result import Comparison
from spatialprobe.comparison.run import Compared, Run
from spatialprobe.comparison.side import Settings
from spatialprobe.errors import ArgumentError, StorageError
from spatialprobe.model.batch import BatchReader, Forward
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.select import Selector, check_model
from spatialprobe.model.weights import device_of
from spatialprobe.statistics.batches import Data, Workload
from spatialprobe.statistics.checkpoint import Checkpoint, checkpoint_path
from spatialprobe.statistics.distributed import TIMEOUT, join_peers
from spatialprobe.statistics.progress import Shown, check_progress


@overload
def compare(
    one: nn.Module,
    other: nn.Module,
    data: Data,
    *,
    layers: Selector = ...,
    other_layers: Selector | None = ...,
    at: At = ...,
    batch_size: int = ...,
    seed: int = ...,
    device: torch.device | str | None = ...,
    num_workers: int = ...,
    progress: Shown = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    checkpoint_seconds: float = ...,
    stop_early: bool = ...,
    timeout: float = ...,
    layout: LayoutChoice = ...,
    forward: Forward | None = ...,
) -> Comparison: ...


@overload
def compare(
    one: nn.Module,
    other: Sequence[nn.Module],
    data: Data,
    *,
    layers: Selector = ...,
    other_layers: Selector | None = ...,
    at: At = ...,
    batch_size: int = ...,
    seed: int = ...,
    device: torch.device | str | None = ...,
    num_workers: int = ...,
    progress: Shown = ...,
    checkpoint: str | os.PathLike[str] | None = ...,
    checkpoint_seconds: float = ...,
    stop_early: bool = ...,
    timeout: float = ...,
    layout: LayoutChoice = ...,
    forward: Forward | None = ...,
) -> list[Comparison]: ...


def compare(
    one: nn.Module,
    other: nn.Module | Sequence[nn.Module],
    data: Data,
    *,
    layers: Selector = nn.Conv2d,
    other_layers: Selector | None = None,
    at: At = "output",
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    progress: Shown = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    stop_early: bool = True,
    timeout: float = TIMEOUT,
    layout: LayoutChoice = "auto",
    forward: Forward | None = None,
) -> Comparison | list[Comparison]:
    """Return how similar the layers of two models are, and which channels of layers of one name differ.

    The similarity of two layers is linear centered kernel alignment [Kornblith et al. 2019]: 1 if one is a rotation
    and scaling of the other, near 0 if they have nothing in common. It is computed from the unbiased
    Hilbert-Schmidt independence criterion [Song et al. 2012] of batches, summed over all of them [Nguyen et al. 2021],
    so it does not depend on their size but for noise, of which `standard_error` tells how large it is. Each sample's
    maps, flattened, are one row, so layers of different sizes can be compared. A constant layer has 0 with every layer.

    Channels are compared where a layer of both models has the same name, and as many channels and units.

    Both models run once over the data, in evaluation mode, and are restored afterwards; only sums are kept, and for
    the length of a batch the activations of `one`. Data sets, iterables, checkpoints and processes under `torchrun`
    are as for `sweep`.

    Args:
        one: any module.
        other: another one, the same, or several, such as checkpoints of one model: `one` then runs once for all.
        data: as for `sweep`. A data set or tensor is read in a shuffled order; an iterable must not yield its batches
            sorted by class.
        layers: the layers to compare, as for `Probe`.
        other_layers: those of `other`; by default chosen as those of `one`.
        at: "output" or "post_activation", as for `Probe`.
        batch_size: the number of samples that run at once; a last batch of fewer than 4 joins the one before.
        seed: of the order in which a data set or tensor is read.
        device: the device on which all models run; by default each on its own.
        num_workers: as for `sweep`, like all that follow.
        progress: whether to show a bar.
        checkpoint: the path of a file for the state.
        checkpoint_seconds: the time between two writes.
        stop_early: whether to end each forward pass once all layers have run.
        timeout: the seconds for all processes to join.
        layout: of the layers' outputs.
        forward: a function `(model, batch) -> output` that calls each model on a batch.

    Returns:
        a `Comparison`; a list of them if `other` is a sequence.

    Raises:
        ArgumentError: an argument is invalid, or there are fewer than 4 samples.
        LayerNotFoundError: a selector matches nothing.
        SpatialProbeError: as `sweep` raises.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> found = sp.compare(model, model, torch.rand(100, 3, 16, 16), progress=False)
    >>> found.cka.shape, found["2"].drift.shape, found.n
    (torch.Size([2, 2]), torch.Size([12]), 100)
    """
    with join_peers(timeout) as peers:  # arguments are checked inside, so that all processes fail together
        models = _check_models(one, other)
        check_arguments(one, at=(at, At))
        check_layout(layout)
        check_switch(stop_early, "stop_early")
        check_progress(progress)
        as_int(batch_size, "batch_size", least=1)
        as_int(num_workers, "num_workers", least=0)
        as_int(seed, "seed")
        as_float(checkpoint_seconds, "checkpoint_seconds", least=0)
        check_function(forward, "forward", "lambda model, batch: model(batch['image'])")
        settings = Settings(at, layout, forward, as_device(device), stop_early)
        inner = [_without_peers(model) for model in models]
        compared = [Compared.of(inner[0], layers)]
        compared += [_compare_other(model, compared[0], layers, other_layers) for model in inner[1:]]
        with ExitStack() as modes:
            for model in inner:
                modes.enter_context(EvaluationMode(model, device=settings.device))
            readers = [BatchReader.of(model, forward) for model in inner]
            alike = all(replace(reader, model="") == replace(readers[0], model="") for reader in readers)
            load = Workload(
                batch_size=max(batch_size, LEAST),
                workers=num_workers,
                pinned=any((settings.device or device_of(model)).type == "cuda" for model in inner),
                rank=peers.rank,
                ranks=peers.size,
                reader=readers[0] if alike else replace(readers[0], whole=True),
                aligned=True,
                checked=checkpoint is not None,
                least=LEAST,
                seed=seed,
            )
            run = Run(compared, data, load, [None if alike else reader for reader in readers], settings)
            peers.compare(lambda: run.terms(checkpoint))
            if checkpoint is not None:
                path = checkpoint_path(checkpoint, peers.rank)
                run.loop.continue_from(Checkpoint(path, checkpoint_seconds, run.identity(), run.form))
            whole = run.compare(peers, progress)
            if not whole.samples:
                raise ArgumentError("the data is empty: there was nothing to compare.")
            results = run.results(whole)
    found: Comparison | list[Comparison] = results[0] if isinstance(other, nn.Module) else results
    if run.loop.unsaved is not None:
        raise StorageError(f"{run.loop.unsaved} The whole result is this error's `result`.", found)
    return found


def _check_models(one: nn.Module, other: object) -> list[nn.Module]:
    """Return all models, the one first.

    Raises:
        ArgumentError: one is no module, or there is no other.
    """
    check_model(one)
    others = [other] if isinstance(other, nn.Module) else list(other) if isinstance(other, Sequence) else None
    if not others or not all(isinstance(model, nn.Module) for model in others):
        raise ArgumentError(
            f"other must be a model or a sequence of models, not {short_repr(other)}. Load a checkpoint into a copy: "
            "other = copy.deepcopy(one); other.load_state_dict(torch.load(path))."
        )
    return [one, *others]


def _without_peers(model: nn.Module) -> nn.Module:
    """Return the model without a wrapper whose forward waits for all ranks, which may have fewer batches."""
    inner: nn.Module = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return inner


def _compare_other(model: nn.Module, one: Compared, layers: Selector, other_layers: Selector | None) -> Compared:
    """Return another model with its layers: those that the user chose, or the namesakes of modules of the first."""
    if other_layers is not None:
        return Compared.of(model, other_layers, "other_layers")
    holds_modules = any(isinstance(part, nn.Module) for part in _parts(layers))
    return Compared.of(model, one.names if holds_modules else layers)


def _parts(selector: Selector) -> Sequence[object]:
    return selector if isinstance(selector, (list, tuple)) else [selector]
