"""Feeding the live values of a forward pass to reducers, and ending the pass once all layers have run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import nn

from spatialprobe.activations.guard import version_of
from spatialprobe.activations.post import unresolved_error
from spatialprobe.activations.recorder import Recorder, Recording
from spatialprobe.activations.records import At
from spatialprobe.errors import (
    ArgumentError,
    LayerNotRunError,
    NonFiniteActivationError,
    SpatialProbeError,
    SweepError,
    UnresolvedActivationError,
    UnsupportedOutputError,
    describe_error,
)
from spatialprobe.model.forward import describe_batch, run_model
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.layout import Layout, channels_second
from spatialprobe.model.select import Layer
from spatialprobe.model.settings import disable_autocast
from spatialprobe.model.stop import Stopped, stop_forward
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.model.weights import describe_weight_mismatch, lacks_batch
from spatialprobe.statistics.batches import Batch
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.loading import describe_shapes
from spatialprobe.statistics.reducer import Reducer, counts_channels
from spatialprobe.tensors import dense_values, widen
from spatialprobe.text import format_count, kind_of

NonFinite = Literal["error", "count"]


class Writer(Protocol):
    """A destination to which activations are written as they are computed."""

    def write(
        self, layer: Layer, call: int, activation: torch.Tensor, batch: Batch, layout: Layout | None = None
    ) -> None:
        """Write the output of a layer in one run; the layout names its axes."""


class Feeder:
    """A runner of a model on successive batches, which passes the outputs of its layers to their reducers.

    The first batch runs to the end, and shows in which order the layers run. With `stop_early`, later forward passes
    end once all layers have run in that order; one that runs its layers in another order runs to the end.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        reducers: Mapping[str, Mapping[str, Reducer]],
        *,
        at: At,
        nonfinite: NonFinite,
        device: torch.device,
        stop_early: bool,
        layouts: Layouts,
        writer: Writer | None = None,
        exact: frozenset[str],
        left_out: dict[str, str],
    ) -> None:
        self._model = model
        self._layers = layers
        self._reducers = reducers
        self._nonfinite = nonfinite
        self._device = device
        self._stop_early = stop_early
        self._writer = writer
        self._exact = exact  # layers that were chosen by name: what leaves others out is an error for them
        self._left_out = left_out
        self._reason: type[SpatialProbeError] = UnsupportedOutputError  # of the first layer that is left out
        self._layouts = layouts
        self._waiting: list[tuple[Layer, int, torch.Tensor]] = []  # values of layers whose layout is unclear
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

    def feed(self, batch: Batch) -> None:
        """Run the model on a batch, and update the reducers of its layers.

        Raises:
            SweepError: the model or a reducer raised.
            NonFiniteActivationError: a layer's output has infinite values or NaN, and `nonfinite` is "error".
            LayerNotRunError: a layer did not run.
            UnresolvedActivationError: no single nonlinearity followed a layer.
            UnsupportedOutputError: a layer's output is not one plain tensor with the samples along its first axis.
        """
        self._batch, self._seen, self._usual, self._failure = batch, [], True, None
        self._waiting = []
        self._layouts.begin(batch.inputs)
        self._recorder.ran.clear()
        self._recorder.trails.clear()
        with undo_block() as self._until:
            try:
                run_model(self._model, batch.inputs, device=self._device)
            except Stopped:
                pass
            except SpatialProbeError:
                raise
            except Exception as error:
                raise self._failure or SweepError(self._describe_model_error(error)) from error
            finally:
                self._recorder.finish()  # torch runs no forward hook of a module whose forward was stopped
        if self._failure is not None:
            raise self._failure
        self._check_resolved()
        self._check_all_ran()
        self._settle()
        for name, why in self._recorder.left_out.items():
            self._left_out.setdefault(name, why)
        if len(self._left_out) == len(self._layers):
            raise self._reason(f"All layers are left out. {next(iter(self._left_out.values()))}")
        if self._order is None:
            self._order = self._seen

    def _take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Process the live value of one run of a layer."""
        try:
            self._process(layer, call, value)
        except UnsupportedOutputError as error:
            self._leave_out(layer, error)
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

    def _process(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Check and reduce a value, or keep it until its layout is known."""
        if layer.name not in self._left_out:
            dense = dense_values(layer.name, value)
            computable = widen(dense)
            self._check(layer, computable)
            if self._layouts.must_wait(layer, call, tuple(dense.shape)):
                self._waiting.append((layer, call, dense.clone()))
            else:
                self._use(layer, call, dense, computable)

    def _leave_out(self, layer: Layer, error: SpatialProbeError) -> None:
        """Leave out a layer that was chosen by a pattern or type; raise the error for one chosen by name."""
        if layer.name in self._exact:
            self._failure = error
            raise error
        if not self._left_out:
            self._reason = type(error)
        self._left_out.setdefault(layer.name, str(error))

    def _use(self, layer: Layer, call: int, dense: torch.Tensor, computable: torch.Tensor) -> None:
        layout = self._layouts.of(layer, call, tuple(dense.shape))
        if self._layouts.leaves_out(layer):
            return
        self._reduce(layer, computable, layout or "channels_first")
        if self._writer is not None:
            self._writer.write(layer, call, dense, self._batch, layout)

    def _settle(self) -> None:
        """Determine the layouts that were unclear in this batch, and reduce the values that waited for them."""
        if not self._waiting:
            return
        with self._recorder.paused():
            inputs = copy_inputs(self._batch.inputs, self._device)
            doubted = [(layer, call, tuple(value.shape)) for layer, call, value in self._waiting]
            self._layouts.settle(self._model, inputs, doubted)
        for layer, call, value in self._waiting:
            try:
                self._use(layer, call, value, widen(value))
            except UnsupportedOutputError as error:
                self._leave_out(layer, error)
        self._waiting = []

    def _reduce(self, layer: Layer, value: torch.Tensor, layout: Layout) -> None:
        version = version_of(value)
        with disable_autocast(value.device.type) if torch.is_autocast_enabled(value.device.type) else nullcontext():
            for name, reducer in self._reducers[layer.name].items():
                try:
                    turned = channels_second(value, layout) if counts_channels(reducer) else value
                    reducer.update(turned, self._batch.samples)
                except Exception as error:
                    text = (
                        f"Reducer {name!r} raised {describe_error(error)} at layer {layer.name!r} in {self._batch}, "
                        f"on an activation {tuple(value.shape)}."
                    )
                    refused = isinstance(error, (ArgumentError, UnsupportedOutputError)) and counts_channels(reducer)
                    if refused and layer.name not in self._exact:  # an output that has no channels, or complex values
                        raise UnsupportedOutputError(text) from error
                    raise SweepError(text) from error
                if version_of(value) != version:
                    raise SweepError(
                        f"Reducer {name!r} modified the output of layer {layer.name!r} in place, and so changed what "
                        "the model computes. Let it work on a new tensor, such as activation.relu() for relu_()."
                    )

    def _check(self, layer: Layer, value: torch.Tensor) -> None:
        count = len(self._batch.samples)
        if isinstance(self._batch.inputs, torch.Tensor) and lacks_batch(layer.module, self._batch.inputs, value):
            raise ArgumentError(self._describe_missing_batch(layer))
        if value.ndim == 0 or len(value) != count:
            raise UnsupportedOutputError(
                f"Layer {layer.name!r} returned {tuple(value.shape)} for the {format_count(count, 'sample')} of "
                f"{self._batch}: its first axis is not the batch, so values cannot be matched to samples. Leave the "
                "layer out of layers=."
            )
        if self._nonfinite == "error" and not _all_finite(value):
            raise NonFiniteActivationError(self._describe_nonfinite(layer, value))

    def _check_resolved(self) -> None:
        """Leave out the layers that no single nonlinearity follows."""
        problem = unresolved_error(trail for trail in self._recorder.trails if trail.layer in self._exact)
        if problem is not None:
            raise problem
        by_name = {layer.name: layer for layer in self._layers}
        for trail in self._recorder.trails:
            reason = trail.describe_reason()
            if reason is not None:
                self._leave_out(by_name[trail.layer], UnresolvedActivationError(reason))

    def _check_all_ran(self) -> None:
        """Leave out the layers that did not run in this batch."""
        for layer in self._layers:
            if layer.name not in self._recorder.ran and layer.name not in self._left_out:
                self._leave_out(
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

    def _describe_missing_batch(self, layer: Layer) -> str:
        shape = tuple(self._batch.inputs.shape)
        return (
            f"Layer {layer.name!r}, {kind_of(layer.module)}, took {self._batch}, of shape {shape}, for one "
            "image without a batch axis. A list or another iterable must yield batches, and the first axis of a tensor "
            "counts samples: pass torch.stack(images), image[None], a Dataset or a DataLoader."
        )

    def _describe_nonfinite(self, layer: Layer, value: torch.Tensor) -> str:
        wrong = ~torch.isfinite(value)
        row = int(wrong.flatten(1).any(dim=1).nonzero()[0]) if value.ndim > 1 else int(wrong.nonzero()[0])
        nans, infinite = int(value[row].isnan().sum()), int(value[row].isinf().sum())
        return (
            f"The output of layer {layer.name!r} has {nans} NaN and {infinite} infinite values for sample "
            f"{int(self._batch.samples[row])}, in {self._batch}. Look at that sample and the layers before; or pass "
            "nonfinite='count' to leave such values out of the statistics, where Moments counts them."
        )


def _all_finite(value: torch.Tensor) -> bool:
    """Return whether no value is infinite or NaN; the sum is then finite, unless it overflows."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    wide = torch.float32 if value.dtype in (torch.float16, torch.bfloat16) else value.dtype
    total = value.sum(dtype=wide).abs().item()
    return math.isfinite(total) or bool(torch.isfinite(value).all())
