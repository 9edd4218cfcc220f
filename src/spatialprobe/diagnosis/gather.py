"""The one pass over the data that all rules share: statistics of every layer, reduced as they are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import torch
from torch import nn

from spatialprobe.diagnosis.evidence import Evidence
from spatialprobe.diagnosis.layer_pictures import read_maps
from spatialprobe.diagnosis.measured import Measured, Nonfinite
from spatialprobe.diagnosis.samples import MOST, Samples
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.diagnosis.survey import Survey
from spatialprobe.diagnosis.watches import Watch, plan_watches
from spatialprobe.errors import ArgumentError, LayerNotRunError
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import BatchReader, tensors_of
from spatialprobe.model.evaluation import modules_in_training
from spatialprobe.model.select import Layer, Selector, find_exact_names, model_name, select
from spatialprobe.model.undo import undo_block
from spatialprobe.statistics.batches import Batch, Data, Progress, Source, Workload, read_batches, source_of
from spatialprobe.statistics.distributed import Peers, join_peers
from spatialprobe.statistics.progress import Shown, progress_bar
from spatialprobe.statistics.reducer import Reducer
from spatialprobe.statistics.terms import Terms, code_of, modules_of, settings_of, weights_of
from spatialprobe.storage.restricted_pickle import RestrictedPickle


@dataclass(frozen=True)
class Load:
    """How the data is read."""

    batch_size: int
    num_workers: int
    progress: Shown
    timeout: float


def gather(subject: Subject, data: Data, layers: Selector, load: Load) -> Evidence:
    """Return what one pass over the data shows.

    Raises:
        ArgumentError: an argument is invalid, or the data is empty.
        LayerNotFoundError: a selector of layers matches nothing.
        LayerNotRunError: a layer that was chosen by its name does not run.
        ForwardError, SweepError: the model or the data raised; or another process failed.
    """
    with join_peers(load.timeout) as others:
        training = tuple(_names_of(subject, modules_in_training(subject.model)))
        chosen, exact = select(subject.called, layers), find_exact_names(subject.called, layers)
        with subject.running() as mode:
            reading = Workload(
                batch_size=load.batch_size,
                workers=load.num_workers,
                pinned=subject.where.type == "cuda",
                rank=others.rank,
                ranks=others.size,
                reader=BatchReader.of(subject.model, subject.forward),
            )
            samples, data = _first_samples(data, reading)
            source = source_of(data, reading)
            others.compare(lambda: _terms(subject, chosen, reading, source))
            subject.samples = _share_samples(samples, others)
            seen = subject.survey(subject.samples)
            left_out = _find_silent(chosen, seen, exact)
            nonlinearities = _find_nonlinearities(subject, chosen, seen)
            mode.reset()
            watches = plan_watches(subject, chosen, seen, nonlinearities)
            nonfinite = _run(subject, watches, source, others, load.progress)
            for watch in watches:
                watch.merge(others)
            nonfinite = _merge_nonfinite(nonfinite, others)
    return _make_evidence(subject, watches, seen, nonlinearities, training, left_out, nonfinite)


def _first_samples(data: Data, reading: Workload) -> tuple[Samples | None, Data]:
    """Return the first samples of the data, the same in every process if they can be, and the data with these in it.

    Raises:
        ArgumentError: the data is empty, or of an unknown kind.
    """
    head = data
    if isinstance(data, Iterator):
        begun = list(islice(data, 1))
        head, data = begun, chain(begun, data)
    alone = replace(reading, rank=0, ranks=1, batch_size=min(reading.batch_size, MOST), workers=0)
    found = next(read_batches(source_of(head, alone), Progress()), None)
    if found is None and reading.rank == 0:
        raise ArgumentError("the data is empty: there is nothing to examine.")
    if found is None:
        return None, data
    batch = found[0]
    return Samples(batch.inputs, len(batch.samples)).first(MOST), data


def _share_samples(samples: Samples | None, others: Peers) -> Samples:
    """Return the samples of the first process, so that extra passes show the same in all."""
    mine = [] if samples is None else [samples.inputs, samples.count]
    held = others.merge_all(mine, _keep_first, RestrictedPickle() if others.size > 1 else None)
    return Samples(held[0], held[1])


def _keep_first(mine: list[Any], other: list[Any]) -> None:
    """Keep one's own content, or take over the other's if there is none."""
    if not mine:
        mine += other


def _terms(subject: Subject, layers: Sequence[Layer], reading: Workload, source: Source) -> Terms:
    """Return what all processes must have in common."""
    return Terms(
        {
            "": {
                "batch_size=": str(reading.batch_size),
                "layout=": repr(subject.layout),
                "forward=": code_of(subject.forward),
                **settings_of(subject.where),
            },
            "the layers": {layer.name: type(layer.module).__name__ for layer in layers},
            "the modules": modules_of(subject.model),
            "the weights": weights_of(subject.model),
            "the data:": source.terms(),
        }
    )


def _find_silent(chosen: Sequence[Layer], seen: Survey, exact: frozenset[str]) -> dict[str, str]:
    """Return the chosen layers that do not run, and why they are left out.

    Raises:
        LayerNotRunError: one of them was chosen by its name.
    """
    ran = set(seen.ran)
    silent = [layer.name for layer in chosen if layer.name not in ran]
    for name in silent:
        if name in exact:
            raise LayerNotRunError(f"Layer {name!r} did not run on the first samples. Choose other layers.")
    return dict.fromkeys(silent, "It did not run on the first samples.")


def _find_nonlinearities(subject: Subject, chosen: Sequence[Layer], seen: Survey) -> dict[str, str]:
    """Return the function that follows each layer of which one single nonlinearity does."""
    ran = set(seen.ran)
    layers = [layer for layer in chosen if layer.name in ran]
    if not layers:
        return {}
    probe = subject.record(layers, "post_activation", subject.samples.first(2), transform=_nothing_of)
    return probe._nonlinearities()


def _nothing_of(value: torch.Tensor) -> torch.Tensor:
    """Return an empty tensor: of these records only the nonlinearities are asked for."""
    return value.new_empty((0,))


def _run(
    subject: Subject, watches: Sequence[Watch], source: Source, others: Peers, progress: Shown
) -> Nonfinite | None:
    """Reduce this process's share of the data; return where the first value arose that is not finite, if any did."""
    feeders = [watch.feeder(subject) for watch in watches] or [Watch([], "output", _no_reducers).feeder(subject)]
    found = None
    shown = progress if others.rank == 0 else False
    with undo_block() as undo, progress_bar(shown, done=0, total=source.count, title="checkup") as bar:
        for feeder in feeders:
            feeder.attach(undo)
        for batch, _ in read_batches(source, Progress()):
            output = feeders[0].feed(batch, *feeders[1:])
            for watch in watches:
                watch.state.samples += len(batch.samples)
            if found is None and not all(map(_is_finite, tensors_of(output))):
                with contextlib.ExitStack() as paused:
                    for feeder in feeders:
                        paused.enter_context(feeder.paused())
                    found = _locate(subject, batch)
            bar.update(len(batch.samples))
            others.after_batch()
    return found


def _no_reducers(layer: Layer) -> dict[str, Reducer]:
    return {}


def _is_finite(value: torch.Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex()) or bool(torch.isfinite(value).all())


def _locate(subject: Subject, batch: Batch) -> Nonfinite | None:
    """Return where in a pass the first value arises that is not finite."""
    samples = Samples(batch.inputs, len(batch.samples))
    seen = subject.survey(samples)
    for run in seen.runs:
        if run.after is not None and not run.after.is_finite:
            wrong = ~run.after.norms.isfinite()
            rows = wrong.nonzero().flatten().tolist() if len(wrong) == len(batch.samples) else []
            maps = read_maps(subject, run.layer, run.call, samples) if rows else None
            return Nonfinite(
                run.layer,
                tuple(batch.samples[rows].tolist()),
                run.before is None or run.before.is_finite,
                None if maps is None else maps[rows[0]].clone(),
            )
    return Nonfinite("", tuple(batch.samples.tolist()), True)


def _merge_nonfinite(found: Nonfinite | None, others: Peers) -> Nonfinite | None:
    """Return what the first process found that found something."""
    mine: list[Any] = [] if found is None else [found.layer, found.samples, found.input_finite, found.maps]
    held = others.merge_all(mine, _keep_first, RestrictedPickle() if others.size > 1 else None)
    return Nonfinite(*held) if held else None


def _names_of(subject: Subject, modules: Sequence[nn.Module]) -> list[str]:
    wanted = set(map(id, modules))
    return [layer.name for layer in subject.known if id(layer.module) in wanted]


def _make_evidence(
    subject: Subject,
    watches: Sequence[Watch],
    seen: Survey,
    nonlinearities: Mapping[str, str],
    training: tuple[str, ...],
    left_out: dict[str, str],
    nonfinite: Nonfinite | None,
) -> Evidence:
    """Return the evidence, with layers in the order in which they ran."""
    samples = watches[0].state.samples if watches else subject.samples.count
    found: dict[str, dict[str, Measured]] = {"moments": {}, "norm": {}, "bounds": {}}
    for watch in watches:
        left_out |= watch.state.left_out
        modules = {layer.name: layer.module for layer in watch.layers}
        for name, results in watch.state.results().items():
            kind = next(iter(results))
            shape = next((run.shape for run in seen.of(name)), ())
            one = Measured(name, modules[name], watch.at, nonlinearities.get(name), shape[1:], samples, results)
            found[kind][name] = one
    order = {name: place for place, name in enumerate(seen.ran)}
    layers, norms, bounded = (
        FrozenMapping({name: found[kind][name] for name in sorted(found[kind], key=order.__getitem__)})
        for kind in ("moments", "norm", "bounds")
    )
    return Evidence(
        model=subject.model,
        name=model_name(subject.model),
        samples=samples,
        layers=layers,
        norms=norms,
        bounded=bounded,
        ran=tuple(seen.ran),
        training=training,
        nonfinite=nonfinite,
        left_out=FrozenMapping(left_out),
        subject=subject,
        seen=seen,
    )
