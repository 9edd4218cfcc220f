"""The forward pass on the images as they are: the runs of the chosen layers, and the scores' gradients there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from spatialprobe.activations.probe import Probe
from spatialprobe.activations.records import Activation, At
from spatialprobe.attribution.forwards import Forwards
from spatialprobe.attribution.run import Run
from spatialprobe.attribution.target import Target
from spatialprobe.errors import (
    ArgumentError,
    LayerNotRunError,
    ProbeStateError,
    SpatialProbeError,
    UnresolvedActivationError,
    UnsupportedOutputError,
)
from spatialprobe.fields.known_layouts import Layouts
from spatialprobe.fields.layout import layouts_of
from spatialprobe.model.forward import with_one_tensor
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.layout import (
    WAYS,
    Layout,
    LayoutChoice,
    describe_doubt,
    describe_misfit,
    describe_rows,
    fits,
    is_channels_first,
)
from spatialprobe.model.outputs import describe_leaves
from spatialprobe.model.select import Layer, describe_scripted, takes_hooks
from spatialprobe.model.tokens import Tokens
from spatialprobe.model.undo import undo_block
from spatialprobe.tensors import holds_own_memory
from spatialprobe.text import format_count

_HOW = f"Pass {WAYS}."


@dataclass(eq=False)
class Chosen:
    """The layers that are asked for, and why some are left out."""

    layers: list[Layer]
    exact: frozenset[str]  # those chosen by name: they are never left out, but are an error
    left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, why: str, error: type[SpatialProbeError]) -> None:
        """Leave a layer out, with the reason.

        Raises:
            SpatialProbeError: it was chosen by its name; of the kind that is passed.
        """
        if name in self.exact:
            raise error(why)
        self.left_out.setdefault(name, why)

    @property
    def left(self) -> list[Layer]:
        """The layers that are not left out."""
        return [layer for layer in self.layers if layer.name not in self.left_out]


def observe(
    forwards: Forwards, chosen: Chosen, at: At, layout: LayoutChoice, *, gradients: bool
) -> tuple[list[Run], torch.Tensor, Target]:
    """Return the runs of the chosen layers in execution order, the scores (N,), and the target with its classes.

    Args:
        forwards: the model and its images.
        chosen: the layers; those that cannot be used are left out.
        at: "output" or "post_activation".
        layout: of the layers' outputs.
        gradients: whether the runs get the gradients of the scores.

    Raises:
        SpatialProbeError: a layer chosen by name cannot be used, or the model cannot be run.
    """
    for layer in chosen.layers:
        if not takes_hooks(layer.module):
            chosen.leave_out(layer.name, describe_scripted(layer.name), ArgumentError)
    _survey(forwards, chosen)
    if not chosen.left:
        return [], torch.zeros(0, device="cpu"), forwards.target
    model = forwards.mode.model
    modules = [layer.module for layer in chosen.left]
    probe = Probe(model, modules, at=at, copy="auto", gradients=gradients, missing="ignore")
    origins: list[GradientEdge] = []
    if gradients:
        probe._note_origins(origins)
    with probe:
        output = forwards.output()
        target = forwards.target.predicted_in(output)
        scores = target.scores(output)
        if origins:
            forwards.gradients(scores, list(dict.fromkeys(origins)))
    origins.clear()
    _leave_out_silent(probe, chosen)
    runs = _runs(probe, forwards, chosen, layout)
    if gradients:
        _leave_out_independent(runs, chosen)
    return [run for run in runs if run.layer.name not in chosen.left_out], scores.detach(), target


def _survey(forwards: Forwards, chosen: Chosen) -> None:
    """Leave out layers whose outputs are no maps; a pass is only made where types of layers do not tell.

    Raises:
        UnsupportedOutputError: such a layer was chosen by name.
    """
    if all(is_channels_first(layer.module) for layer in chosen.layers):
        return
    found: dict[str, str] = {}

    def look(layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        problem = _problem_of(output, forwards.target.count)
        if problem is not None:
            found.setdefault(layer.name, f"Layer {layer.name or '(model)'!r} returned {problem}")

    hooks = [(layer.module, ProbeHook(look, layer)) for layer in chosen.left]
    with undo_block() as undo, torch.no_grad():
        attach(undo, hooks, forwards.mode.model, ProbeHook(_nothing), ProbeHook(_nothing))
        forwards.output()
    forwards.mode.reset()
    for name, why in found.items():
        chosen.leave_out(name, why, UnsupportedOutputError)


def _problem_of(output: Any, count: int) -> str | None:
    """Return what a layer returned where it is not (N, C, *units), one row for each of so many images."""
    if not isinstance(output, torch.Tensor):
        return f"no single tensor but {describe_leaves(output)}: choose a layer inside it or behind it."
    if not (output.is_floating_point() and holds_own_memory(output)):
        return f"a {output.layout} tensor of {output.dtype}: this needs a plain dense one of floating-point numbers."
    problem = describe_rows(tuple(output.shape), count)
    if problem:
        return f"{tuple(output.shape)} for {format_count(count, 'sample')}. {problem}"
    if output.ndim < 2 or not output.numel():
        return f"{tuple(output.shape)} for {format_count(count, 'sample')}: this needs (N, C, *units)."
    return None


def _nothing(*args: Any) -> None:
    """A hook that does nothing."""


def _leave_out_silent(probe: Probe, chosen: Chosen) -> None:
    """Leave out layers that did not run, or that no single nonlinearity follows.

    Raises:
        LayerNotRunError, UnresolvedActivationError: such a layer was chosen by name.
    """
    for name in probe.silent:
        chosen.leave_out(name, f"Layer {name!r} did not run on these images.", LayerNotRunError)
    for trail in probe._recorder.trails:
        problem = trail.describe_problem()
        if problem is not None:
            why = f"No single nonlinearity follows layer {problem}. at='output' takes what the layer itself returns."
            chosen.leave_out(trail.layer, why, UnresolvedActivationError)


def _runs(probe: Probe, forwards: Forwards, chosen: Chosen, choice: LayoutChoice) -> list[Run]:
    """Return the runs on record whose channels can be told."""
    by_name = {layer.name: layer for layer in chosen.layers}
    records = [record for record in probe.records if record.layer not in chosen.left_out]
    doubted = {record.layer for record in records if record.layout is None and len(record.shape) > 2}
    traced = _traced(forwards, doubted) if choice == "auto" else {}
    runs = []
    for record in records:
        layer = by_name[record.layer]
        problem = _problem_of(record.tensor, forwards.target.count)
        if problem is not None:
            chosen.leave_out(layer.name, f"The activation of layer {layer.name!r} is {problem}", UnsupportedOutputError)
            continue
        layout = choice if choice != "auto" else record.layout or _of_run(traced, record)
        if layout is None:
            chosen.leave_out(layer.name, describe_doubt(layer.name, record.shape, _HOW), UnsupportedOutputError)
            continue
        if not fits(layout, record.shape):
            chosen.leave_out(layer.name, describe_misfit(layer.name, record.shape, layout), UnsupportedOutputError)
            continue
        grid = layout if isinstance(layout, Tokens) else None
        as_line: Layout = "channels_last" if grid else layout  # leading tokens are part of the answer
        runs.append(Run(layer, record.call, record.at, as_line, record.tensor, record.gradient, grid))
    return runs


def _traced(forwards: Forwards, names: Iterable[str]) -> Layouts:
    """Return the layouts of layers in doubt, from a pass without values; none where the model cannot be followed."""
    wanted = list(names)
    if not wanted:
        return {}
    try:
        return layouts_of(*with_one_tensor(forwards.mode.model, forwards.part), wanted)
    except SpatialProbeError:  # they stay in doubt
        return {}
    finally:
        forwards.mode.reset()


def _of_run(traced: Layouts, record: Activation) -> Layout | None:
    if len(record.shape) <= 2:
        return "channels_first"
    runs = traced.get(record.layer, ())
    return runs[record.call] if record.call < len(runs) else None


def _leave_out_independent(runs: list[Run], chosen: Chosen) -> None:
    """Leave out layers on which the scores do not depend.

    Raises:
        ProbeStateError: such a layer was chosen by name.
    """
    for run in runs:
        if run.gradient is None:
            why = (
                f"The scores do not depend on {run.name}: what follows it is not used, is detached, or is computed "
                "under torch.no_grad(). Choose another layer or target."
            )
            chosen.leave_out(run.layer.name, why, ProbeStateError)
