"""Feeding the live values of a forward pass to reducers, and ending the pass once all layers have run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from spatialprobe.activations.post import unresolved_error
from spatialprobe.activations.recorder import Recorder, Recording
from spatialprobe.activations.records import At
from spatialprobe.errors import (
    LayerNotRunError,
    SpatialProbeError,
    SweepError,
    UnresolvedActivationError,
    describe_error,
)
from spatialprobe.model.forward import describe_batch, run_model
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.select import Layer
from spatialprobe.model.stop import Stopped, stop_forward
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.model.weights import describe_weight_mismatch
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.intake import Intake, NonFinite, Writer
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.loading import describe_shapes
from spatialprobe.statistics.reducer import Taker


class Feeder:
    """A runner of a model on successive batches, which passes the outputs of its layers to their reducers.

    The first batch runs to the end, and shows in which order the layers run. With `stop_early`, later forward passes
    end once all layers have run in that order; one that runs its layers in another order runs to the end. So do all
    where a layer ran several times in the first batch, since how often it runs may depend on the samples.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        reducers: Mapping[str, Mapping[str, Taker]],
        *,
        at: At,
        nonfinite: NonFinite,
        advice: str = "",
        device: torch.device,
        stop_early: bool,
        layouts: Layouts,
        writer: Writer | None = None,
        exact: frozenset[str],
        left_out: dict[str, str],
        needed: bool = True,
    ) -> None:
        self._model = model
        self._layers = layers
        self._device = device
        self._stop_early = stop_early
        self._exact = exact  # layers that were chosen by name: what leaves others out is an error for them
        self._left_out = left_out
        self._needed = needed  # whether it is an error that all layers are left out
        self._intake = Intake(
            reducers, layouts, nonfinite=nonfinite, advice=advice, exact=exact, left_out=left_out, writer=writer
        )
        self._recorder = Recorder(model, list(layers), {}, Recording(at=at, take=self._take, required=exact))
        self._order: list[str] | None = None  # the layers in the order in which they ran in the first batch
        self._seen: list[str] = []  # the layers that have run in the present batch
        self._usual = True  # whether the present batch has followed the order so far
        self._failure: BaseException | None = None  # stored in case the model swallows it

    def attach(self, undo: Undo) -> None:
        """Register the hooks, until `undo` runs."""
        recorder = self._recorder
        recorder.begin()
        undo.add(recorder.stop_following)
        around = ProbeHook(recorder.forward_begins), ProbeHook(recorder.forward_ends)
        attach(undo, recorder.hooks(list(self._layers)), self._model, *around)

    def feed(self, batch: Batch, *beside: Feeder) -> Any:
        """Run the model on a batch, update the reducers of its layers, and return the model's output, None if stopped.

        Feeders `beside` this one watch the same run of the same model, each with layers and reducers of its own.

        Raises:
            SweepError: the model or a reducer raised.
            NonFiniteActivationError: a layer's output has infinite values or NaN, and `nonfinite` is "error".
            LayerNotRunError: a layer did not run.
            UnresolvedActivationError: no single nonlinearity followed a layer.
            UnsupportedOutputError: a layer's output is not one plain tensor with the samples along its first axis.
        """
        watching = (self, *beside)
        output = None
        with undo_block() as until:
            for one in watching:
                one._begin(batch, until)
            try:
                output = run_model(self._model, batch.inputs, device=self._device)
            except Stopped:
                pass
            except SpatialProbeError:
                raise
            except Exception as error:
                failures = (one._failure for one in watching if one._failure is not None)
                raise next(failures, None) or SweepError(self._describe_model_error(error)) from error
            finally:
                for one in watching:
                    one._recorder.finish()  # torch runs no forward hook of a module whose forward was stopped
        for one in watching:
            one._end(batch)
        return output

    def paused(self) -> AbstractContextManager[None]:
        """Return a block in which runs of the model are not reduced."""
        return self._recorder.paused()

    def _begin(self, batch: Batch, until: Undo) -> None:
        """Prepare for a batch; `until` ends when its forward pass does."""
        self._batch, self._seen, self._usual, self._failure = batch, [], True, None
        self._until = until
        self._intake.begin(batch)
        self._recorder.ran.clear()
        self._recorder.trails.clear()

    def _end(self, batch: Batch) -> None:
        """Settle what the batch left open, and leave out the layers that it has shown to be unusable."""
        if self._failure is not None:
            raise self._failure
        for name, why in self._recorder.left_out.items():
            self._left_out.setdefault(name, why)
        self._check_resolved()
        self._check_all_ran()
        with self._recorder.paused():
            self._intake.settle(self._model, lambda: copy_inputs(batch.inputs, self._device))
        if len(self._left_out) == len(self._layers) and self._needed:
            raise self._intake.reason(f"All layers are left out. {next(iter(self._left_out.values()))}")
        if self._order is None:
            self._order = self._seen
            self._stop_early = self._stop_early and len(set(self._order)) == len(self._order)

    def _take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Process the live value of one run of a layer."""
        try:
            with torch._C.DisableTorchFunction():  # what is read here is no use by the model, for whoever follows it
                self._intake.take(layer, call, value)
        except BaseException as error:  # an interrupt too, since it leaves the batch half reduced
            self._failure = error
            raise
        at = len(self._seen)
        self._seen.append(layer.name)
        if self._order is None or not self._stop_early:
            return
        self._usual = self._usual and at < len(self._order) and self._order[at] == layer.name
        if self._usual and at + 1 == len(self._order):
            stop_forward(self._model, self._until)

    def _check_resolved(self) -> None:
        """Leave out the layers that no single nonlinearity follows."""
        problem = unresolved_error(trail for trail in self._recorder.trails if trail.layer in self._exact)
        if problem is not None:
            raise problem
        by_name = {layer.name: layer for layer in self._layers}
        for trail in self._recorder.trails:
            reason = trail.describe_reason()
            if reason is not None:
                self._intake.leave_out(by_name[trail.layer], UnresolvedActivationError(reason))

    def _check_all_ran(self) -> None:
        """Leave out the layers that did not run in this batch."""
        for layer in self._layers:
            if layer.name not in self._recorder.ran and layer.name not in self._left_out:
                self._intake.leave_out(
                    layer,
                    LayerNotRunError(
                        f"Layer {layer.name or '(model)'!r} did not run in {self._batch}, so it has no values of these "
                        "samples. Leave it out: layers= takes names, globs, types, or a function such as lambda name, "
                        f"module: isinstance(module, nn.Conv2d) and name != {layer.name!r}."
                    ),
                )

    def _describe_model_error(self, error: Exception) -> str:
        where = f"after layer {self._seen[-1]!r}" if self._seen else "before any of the layers had run"
        inputs = self._batch.inputs
        given = f"{self._batch}, inputs {describe_batch(inputs)}, {where}."
        hints = describe_weight_mismatch(self._model, inputs) + self._describe_shapes(inputs)
        return f"The model raised {describe_error(error)} in {given}{hints}"

    def _describe_shapes(self, inputs: Any) -> str:
        """Say that samples have different shapes, which most models do not take; empty if they have not."""
        shapes = [tuple(one.shape) for one in inputs if isinstance(one, torch.Tensor)] if type(inputs) is list else []
        other = next((at for at, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is None:
            return ""
        numbers = self._batch.samples.tolist()
        return f" {describe_shapes(numbers[other], shapes[other], numbers[0], shapes[0])}"
