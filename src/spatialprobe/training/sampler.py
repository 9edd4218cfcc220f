"""Sampling of a forward pass: hooks on the layers for this pass alone, which reduce values as they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from spatialprobe.activations.post import unresolved_error
from spatialprobe.activations.recorder import Recorder, Recording
from spatialprobe.activations.records import At
from spatialprobe.activations.watch import is_backward
from spatialprobe.errors import ArgumentError, NonFiniteActivationError, UnresolvedActivationError
from spatialprobe.model.batch import BatchReader
from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.forward import CalledBy
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.layout import LayoutChoice
from spatialprobe.model.select import Layer
from spatialprobe.model.settings import disable_autocast_cache, disable_gradients
from spatialprobe.model.undo import Undo
from spatialprobe.statistics.intake import Intake, all_finite
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.reducer import Factory, Reducer
from spatialprobe.training.nonfinite import NonFiniteOrigin, find_in_gradient, find_in_output
from spatialprobe.training.step import Step, StepBatch

NonFinite = Literal["error", "record"]


@dataclass(frozen=True)
class Sampling:
    """The user's options of what is sampled."""

    layers: list[Layer]
    exact: frozenset[str]  # layers that were chosen by name: what leaves others out is an error for them
    factories: Mapping[str, Factory]
    kinds: Mapping[str, Reducer]  # one of each, unused
    at: At
    layout: LayoutChoice
    gradients: bool
    nonfinite: NonFinite


class Sampler:
    """Puts hooks on the layers of a model for one forward pass at a time, and fills a `Step` from it.

    Args:
        model: the model whose forwards are sampled.
        sampling: what is sampled.
        ranks: the number of this process, and of all.
    """

    def __init__(self, model: nn.Module, sampling: Sampling, ranks: tuple[int, int]) -> None:
        self.left_out: dict[str, str] = {}
        self.nonfinite: list[NonFiniteOrigin] = []
        self.step: Step | None = None  # while a forward is sampled
        self.changed: dict[Step, None] = {}  # steps with new values or gradients; whoever reads them clears it
        self._model = model
        self._sampling = sampling
        self._rank, self._ranks = ranks
        self._reader = BatchReader.of(model)
        self._recorder = Recorder(
            model, sampling.layers, {}, Recording(at=sampling.at, take=self._take, required=sampling.exact)
        )
        counting = {layer.name: sampling.kinds for layer in sampling.layers}
        self._layouts = Layouts(
            model, counting, sampling.layout, exact=sampling.exact, left_out=self.left_out, stored=False
        )
        self._intake = self._new_intake({}, self.left_out)
        self._undo = Undo()
        self._batch: StepBatch | None = None
        self._released = False
        self._thread = get_ident()
        self._views: list[tuple[torch.Tensor, int, RemovableHandle]] = []  # with their versions and gradient hooks
        self._noted: set[tuple[int, str]] = set()  # steps and directions of which an origin is known

    def begin(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any], last: ProbeHook) -> Step:
        """Register hooks for the forward that begins, which `last`, the model's own forward hook, will end."""
        alone = len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor)
        inputs = args[0] if alone else (args, kwargs)
        self._batch = batch = StepBatch(number, inputs, self._number_samples(inputs), 0)
        self._gradient_batch = batch.without_values()
        self.step = Step(number)
        self._intake.reducers = self.step.values
        self._intake.begin(batch)
        self._thread = get_ident()
        self._undo = undo = Undo()
        self._recorder.begin()
        undo.add(self._recorder.stop_following)
        hold_eager(undo)
        hooks = Hooks(undo)
        for layer in self._sampling.layers:
            hooks.add(layer.module, ProbeHook(self._check_output, layer))
        for module, hook in self._recorder.hooks(self._sampling.layers):
            hooks.add(module, hook)
        for key in [key for key, hook in self._model._forward_hooks.items() if hook is last]:
            self._model._forward_hooks.move_to_end(key)  # type: ignore[attr-defined]  # torch's are OrderedDicts
        self._recorder.forward_begins(self._model, args, kwargs)
        return self.step

    def end(self, args: tuple[Any, ...], output: Any) -> Step | None:
        """Remove the hooks; return the step, None if the forward raised an exception.

        Raises:
            UnresolvedActivationError, UnsupportedOutputError: a layer that was chosen by name has no usable values, or
                no layer has.
        """
        step, batch = self.step, self._batch
        try:
            self._recorder.forward_ends(self._model, args, output)
        finally:
            self.cancel()
        if step is None or batch is None or output is None:
            return None
        self._check_resolved()
        for name, why in self._recorder.left_out.items():
            self.left_out.setdefault(name, why)
        alone = isinstance(batch.inputs, torch.Tensor)
        with disable_autocast_cache():  # it would keep weights that were converted without gradients
            model = self._model if alone else CalledBy(self._model, _call_with)
            self._intake.settle(model, partial(copy_inputs, batch.inputs))
        step.values = {name: mine for name, mine in step.values.items() if name not in self.left_out}
        self._check_any_left()
        self.changed[step] = None
        return step

    def cancel(self) -> None:
        """Remove the hooks, and release what belongs to the forward."""
        self._undo.run()
        self._recorder.finish()
        for value, version, handle in self._views:
            if value._version != version:  # the gradient of a view that was modified in place goes past its hook
                handle.remove()
        self._views = []
        self.step = None
        self._batch = None

    def release(self) -> None:
        """Stop reducing gradients: the block has ended."""
        self._released = True
        self.cancel()

    @property
    def ran(self) -> set[str]:
        """The names of the layers that ran in the last sampled forward."""
        return self._recorder.ran

    def _new_intake(self, reducers: dict[str, dict[str, Reducer]], left_out: dict[str, str]) -> Intake:
        return Intake(reducers, self._layouts, nonfinite="count", exact=self._sampling.exact, left_out=left_out)

    def _number_samples(self, inputs: Any) -> torch.Tensor:
        """Return the positions of the samples of a batch, as a sweep over batches of several processes numbers them."""
        try:
            count = self._reader.count(inputs)
        except ArgumentError:
            count = 0
        return torch.arange(count, device="cpu") * self._ranks + self._rank

    def _new_reducers(self) -> dict[str, Reducer]:
        return {name: factory() for name, factory in self._sampling.factories.items()}

    def _take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Reduce the live value of one run of a layer."""
        step = self.step
        if step is None or layer.name in self.left_out:
            return
        if layer.name not in step.values:
            step.values[layer.name] = self._new_reducers()
        with disable_gradients():
            self._intake.take(layer, call, value.detach())
        if self._sampling.gradients and value.requires_grad and layer.name not in self.left_out:
            hook = partial(self._take_gradient, step, self._gradient_batch, layer, call)
            handle = value.register_hook(hook)  # type: ignore[no-untyped-call]
            if value._is_view():
                self._views.append((value.detach(), value._version, handle))

    def _take_gradient(self, step: Step, batch: StepBatch, layer: Layer, call: int, gradient: torch.Tensor) -> None:
        """Reduce the gradient of a value; a tensor hook."""
        if self._released or layer.name in self.left_out:
            return
        with disable_gradients():
            if not all_finite(gradient):
                self._note(find_in_gradient(layer.name, layer.module, gradient, batch.number))
            if layer.name not in step.gradients:
                step.gradients[layer.name] = self._new_reducers()
            intake = self._new_intake(step.gradients, {})
            intake.begin(batch)
            intake.take(layer, call, gradient.detach())
        self.changed[step] = None

    def _check_output(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Look for infinite values and NaN in what a layer returns; its forward hook."""
        if self.step is None or module is not layer.module or is_backward() or get_ident() != self._thread:
            return
        with disable_gradients():
            found = find_in_output(layer.name, module, args, output, self.step.number)
        if found is not None:
            self._note(found)

    def _note(self, origin: NonFiniteOrigin) -> None:
        """Note the first origin of a step, or raise the error.

        Gradients of half precision overflow in healthy trainings, whose scaler then skips the step: they never raise,
        and neither do those that follow from them.

        Raises:
            NonFiniteActivationError: `nonfinite` is "error".
        """
        key = (origin.step or 0, origin.direction)
        if key in self._noted:
            return
        self._noted.add(key)
        self.nonfinite.append(origin)
        scaled = origin.direction == "backward" and origin.dtype is torch.float16
        if self._sampling.nonfinite == "error" and not scaled:
            raise NonFiniteActivationError(
                f"{origin} sp.find_nonfinite finds the first layer of all; pass nonfinite='record' to go on."
            )

    def _check_resolved(self) -> None:
        """Leave out the layers that no single nonlinearity follows."""
        trails = self._recorder.trails
        problem = unresolved_error(trail for trail in trails if trail.layer in self._sampling.exact)
        if problem is not None:
            raise problem
        by_name = {layer.name: layer for layer in self._sampling.layers}
        for trail in trails:
            reason = trail.describe_reason()
            if reason is not None:
                self._intake.leave_out(by_name[trail.layer], UnresolvedActivationError(reason))

    def _check_any_left(self) -> None:
        if len(self.left_out) == len(self._sampling.layers):
            raise self._intake.reason(f"All layers are left out. {next(iter(self.left_out.values()))}")


def _call_with(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
    args, kwargs = inputs
    return model(*args, **kwargs)
