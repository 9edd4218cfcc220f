"""The context manager that rides along a training loop."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from threading import get_ident
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from torch import nn

from spatialprobe.activations.probe import check_arguments
from spatialprobe.activations.recorder import IN_REPLICAS
from spatialprobe.activations.records import At
from spatialprobe.activations.watch import is_backward
from spatialprobe.arguments import as_int, check_function, check_switch
from spatialprobe.errors import ArgumentError, LayerNotRunError, ProbeStateError, add_note
from spatialprobe.mappings import FrozenMapping
from spatialprobe.model.batch import Forward
from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.layout import LayoutChoice, check_layout
from spatialprobe.model.names import list_names
from spatialprobe.model.select import Selector, find_exact_names, model_name, select
from spatialprobe.model.undo import Block, Leaving
from spatialprobe.statistics.distributed import TIMEOUT
from spatialprobe.statistics.reducer import Factories, as_factories, create_reducers
from spatialprobe.statistics.result import freeze_results
from spatialprobe.text import describe_left_out, format_count
from spatialprobe.training.fixed_batch import FixedBatch
from spatialprobe.training.history import History, HistoryRow, make_history
from spatialprobe.training.nonfinite import NonFiniteOrigin
from spatialprobe.training.numbers import mean_of, numbers_of
from spatialprobe.training.own_passes import is_own_pass, own_pass
from spatialprobe.training.ranks import merge_ranks
from spatialprobe.training.sampler import NonFinite, Sampler, Sampling
from spatialprobe.training.sinks import Pixels, SafeSink, sink_of
from spatialprobe.training.step import Step

if TYPE_CHECKING:
    from spatialprobe.training.lightning import LightningCallback


class Monitor(Block):
    """A context manager that rides along a training loop, which it does not touch.

    Steps are the forwards of the model in training mode, counted from 0; the recomputation of activation checkpointing
    does not count. At step 0 and every `every`-th after it the outputs of the layers are reduced as they are computed,
    and nothing is kept of them. Between these steps no hook is on any layer, only one pair on the model itself. The
    model, its modes, hooks and random states are as without a monitor: with the same seed, training ends with the same
    weights, bit for bit.

    Args:
        model: the module that the loop calls; a wrapped or compiled one where the loop calls that. Compiled models run
            eagerly at the sampled steps, and between them as compiled.
        reducers: as for `sweep`, `{"moments": sp.Moments, "dead": sp.Dead}` or a list of classes. Every layer gets new
            ones at each sampled step.
        layers: as for `Probe`. Layers chosen by a pattern, type or predicate that have no usable values are left out,
            and `left_out` says why; chosen by name they are an error. One that did not run at a step has no row there.
        at: "output" or "post_activation", as for `Probe`.
        every: the number of steps from one sampled step to the next.
        images: a fixed batch whose maps are kept at the sampled steps, from a forward in evaluation mode before the
            step; they are copied to the CPU.
        log: where the means over channels go as well: a TensorBoard `SummaryWriter`, a Weights & Biases run, or a
            function `(name, value, step)`; names are such as "moments.std/conv1". With `images`, the maps of the first
            go there as pictures. If it raises, training goes on, and the error is raised when the block ends.
        gradients: whether the gradients of the same values are reduced too, under names such as "moments.gradient": of
            the loss as it is, multiplied by the scale of a gradient scaler. Values without a gradient (frozen parts,
            reentrant checkpoints, views that are modified in place) have no row.
        nonfinite: "error" raises at the first sampled step at which a layer returns infinite values or NaN, or a
            gradient has some, unless in half precision, which a gradient scaler handles; "record" lists them in
            `nonfinite`.
        layout: of the layers' outputs, as for `sweep`.
        forward: a function `(model, batch) -> output` that calls the model on `images`, as for `sweep`.

    The samples of a step are numbered within its batch. Several processes, of a model in `DistributedDataParallel`,
    each reduce their own share; their results are merged when the block ends, which each of them must do.

    Raises:
        ArgumentError: an argument cannot be used.
        LayerNotFoundError: a selector matches nothing.
        ProbeStateError: the monitor is entered while active.
        NonFiniteActivationError: in the forward or backward pass, as `nonfinite` says.
        LayerNotRunError: when the block ends, the model never ran in training mode, or a layer chosen by name did not.
        UnresolvedActivationError, UnsupportedOutputError: in the forward pass, a layer chosen by name has no values
            that can be reduced, or no layer has.
        SweepError: a reducer raised, or another process failed.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with sp.Monitor(model, {"moments": sp.Moments}, every=10, gradients=True) as monitor:
    ...     for _ in range(21):
    ...         loss = model(torch.rand(8, 1, 8, 8)).square().mean()
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> monitor.history.steps, monitor.history.table("moments.gradient.std").shape
    ((0, 10, 20), (3, 1))
    """

    _merges_ranks = False  # whether the results of other processes are merged when the block ends

    def __init__(
        self,
        model: nn.Module,
        reducers: Factories,
        *,
        layers: Selector = nn.Conv2d,
        at: At = "output",
        every: int = 100,
        images: Any = None,
        log: Any = None,
        gradients: bool = False,
        nonfinite: NonFinite = "error",
        layout: LayoutChoice = "auto",
        forward: Forward | None = None,
    ) -> None:
        check_arguments(model, at=(at, At), nonfinite=(nonfinite, NonFinite))
        check_layout(layout)
        check_switch(gradients, "gradients")
        check_function(forward, "forward", "lambda model, batch: model(batch['image'])")
        self._model = model
        self._every = as_int(every, "every", least=1)
        kinds = create_reducers(reducers)
        if not kinds and images is None:
            raise ArgumentError("reducers is empty, and there are no images=: this monitor would see nothing.")
        chosen, exact = select(model, layers), find_exact_names(model, layers)
        self._sampling = Sampling(chosen, exact, dict(as_factories(reducers)), kinds, at, layout, gradients, nonfinite)
        self._log = None if log is None else sink_of(log)
        self._fixed = None if images is None else FixedBatch(model, chosen, at, images, forward)
        self._around = ProbeHook(self._forward_begins), ProbeHook(self._forward_ends)
        self._reset()

    def _reset(self) -> None:
        self._sampler = Sampler(self._model, self._sampling, _ranks() if self._merging else (0, 1))
        self._sink = None if self._log is None else SafeSink(self._log)
        self._steps: list[Step] = []
        self._forwards = 0
        self._outer: FrameType | None = None  # from which the forward that is counted was called, until it ends
        self._nested = 0
        self._thread = get_ident()

    def __enter__(self) -> Monitor:
        if self._is_active:
            raise ProbeStateError("This monitor is already active: leave its block first, or make a second Monitor.")
        undo = self._begin()
        try:
            self._reset()
            undo.add(self._sampler.release)
            if getattr(self._model, "_compiled_call_impl", None) is not None:
                hold_eager(undo)  # Module.compile() compiles a module's hooks away
            hooks = Hooks(undo)
            hooks.add_before(self._model, self._around[0], prepend=True, with_kwargs=True)
            hooks.add(self._model, self._around[1], always_call=True)
        except BaseException:
            undo.run()
            raise
        return self

    @Leaving
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active is None or not self._active.open:
            raise ProbeStateError("This monitor is not active: enter its block first.")
        self._active.run()
        self._flush()
        unlogged = None if self._sink is None else self._sink.error
        if error is not None:
            if unlogged is not None:
                add_note(error, f"Before that log= raised {type(unlogged).__name__}: {unlogged}")
            return
        if self._merging:
            self._steps = merge_ranks(self._steps, self._sampling.factories, TIMEOUT)
        self._check_ran()
        if unlogged is not None:
            raise unlogged

    @property
    def forwards(self) -> int:
        """The number of steps so far: forwards of the model in training mode."""
        return self._forwards

    @property
    def history(self) -> History:
        """The rows of the sampled steps so far; in the block those of this process."""
        self._flush()
        rows = [row for step in self._steps for row in self._rows_of(step)]
        maps = {step.number: step.maps for step in self._steps if step.maps}
        return make_history(rows, model_name(self._model), self.left_out, maps, self._sampling.layout)

    @property
    def nonfinite(self) -> tuple[NonFiniteOrigin, ...]:
        """Where infinite values and NaN first arose, at each sampled step with some, forwards and backwards."""
        return tuple(self._sampler.nonfinite)

    @property
    def left_out(self) -> Mapping[str, str]:
        """The chosen layers without any row, and why; those that never ran are known when the block ends."""
        found = dict(self._sampler.left_out)
        if self._active is not None and not self._is_active:
            found |= dict.fromkeys(self._silent, "It did not run at a sampled step.")
        names = [layer.name for layer in self._sampling.layers]
        return FrozenMapping({name: found[name] for name in names if name in found})

    def lightning(self) -> LightningCallback:
        """Return a callback for a Trainer of Lightning, which enters the monitor when training starts, and leaves it.

        The monitor's model is the module that `training_step` calls: the LightningModule itself where it calls
        `self(...)`, or the module that it holds. The processes of a distributed training are merged at its end.

        Raises:
            ImportError: neither lightning nor pytorch_lightning is installed.
        """
        from spatialprobe.training.lightning import make_callback

        return make_callback(self)

    def __repr__(self) -> str:
        what = f"{format_count(self._forwards, 'step')}, {len(self._steps)} of them sampled"
        heading = f"Monitor of {model_name(self._model)}: {what}, {format_count(len(self._sampling.layers), 'layer')}"
        return "\n".join(filter(None, [heading, describe_left_out(self.left_out)]))

    @property
    def _merging(self) -> bool:
        """Whether other processes train the same model, and leave the block too."""
        return self._merges_ranks or isinstance(self._model, nn.parallel.DistributedDataParallel)

    @property
    def _silent(self) -> list[str]:
        """The names of the chosen layers that never ran at a sampled step, and are not left out for another reason."""
        if not self._steps:
            return []
        seen = {layer for step in self._steps for layer in (*step.values, *step.maps)} | self._sampler.left_out.keys()
        return [layer.name for layer in self._sampling.layers if layer.name not in seen]

    def _forward_begins(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count a forward, and begin to sample it if it is due; the model's forward pre-hook."""
        if model is not self._model or not self._is_counted(model):
            return
        caller = sys._getframe(1)
        if self._outer is not None and _is_running(self._outer):
            self._nested += 1  # the model calls itself
            return
        if self._outer is not None:
            self._sampler.cancel()  # an interrupt ended that forward
        self._outer, self._nested = caller, 0
        number = self._forwards
        self._forwards += 1
        if self._sampler.changed:
            self._flush()
        if number % self._every == 0:
            self._begin_sample(number, args, kwargs)

    def _begin_sample(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with own_pass():
            maps = {} if self._fixed is None else self._fixed.maps()
        self._sampler.begin(number, args, kwargs, self._around[1]).maps = maps

    def _forward_ends(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """End the sampling of a forward; the model's forward hook, which is also called after an exception."""
        if model is not self._model or self._outer is None or not self._is_counted(model):
            return
        if self._nested:
            self._nested -= 1
            return
        self._outer = None
        if self._sampler.step is None:
            return
        with own_pass():
            step = self._sampler.end(args, output)
        if step is not None:
            self._steps.append(step)
            if not self._sampling.gradients:
                self._flush()

    def _is_counted(self, model: nn.Module) -> bool:
        """Return whether the present forward is a training step, or a part of one."""
        return model.training and not is_own_pass() and not is_backward() and get_ident() == self._thread

    def _flush(self) -> None:
        """Log what is new of the steps, and release what only their reducers' further updates need."""
        changed, self._sampler.changed = self._sampler.changed, {}
        for step in changed:
            step.compact(self._sampling.factories)
            if self._sink is not None:
                self._sink.write(step.number, self._numbers_of(step), self._pictures_of(step))

    def _rows_of(self, step: Step) -> Iterator[HistoryRow]:
        """Yield the rows of a step, whose results know their layer."""
        for layer, name, reducer in step.reducers():
            frozen = freeze_results({layer: {name: reducer.result()}}, self._sampling.at)
            yield HistoryRow(step.number, layer, name, frozen[layer][name])

    def _numbers_of(self, step: Step) -> dict[str, float]:
        """Return the means over channels of a step, by the names under which they are logged."""
        return {
            f"{row.reducer}{part and '.'}{part}/{row.layer or '(model)'}": mean_of(values)
            for row in self._rows_of(step)
            for part, values in numbers_of(row.result).items()
            if values.ndim <= 1
        }

    def _pictures_of(self, step: Step) -> dict[str, Pixels]:
        """Return the maps of the first image of the fixed batch, by the names under which they are logged."""
        from spatialprobe.render.feature_maps import feature_maps

        return {
            f"maps/{layer or '(model)'}" + (f"/{call}" if len(runs) > 1 else ""): feature_maps(
                run, layout=self._sampling.layout
            ).array
            for layer, runs in step.maps.items()
            for call, run in enumerate(runs)
        }

    def _check_ran(self) -> None:
        """Raise an error about a model or layers that never ran."""
        if not self._forwards:
            raise LayerNotRunError(
                f"{model_name(self._model)} never ran in training mode inside the block: call model.train() first, and "
                "pass the module that the loop calls, in this thread: a compiled or wrapped model itself, if it does."
            )
        silent = self._silent
        missing = [name for name in silent if name in self._sampling.exact]
        if silent and len(silent) == len(self._sampling.layers):
            missing = silent
        if missing:
            replicated = isinstance(self._model, nn.DataParallel)
            how = IN_REPLICAS if replicated else "Choose layers that run in the model's forward."
            raise LayerNotRunError(f"These layers never ran at a sampled step: {list_names(missing)}. {how}")


def _is_running(frame: FrameType) -> bool:
    """Return whether a frame is on the present call stack."""
    here: FrameType | None = sys._getframe(1)
    while here is not None:
        if here is frame:
            return True
        here = here.f_back
    return False


def _ranks() -> tuple[int, int]:
    """Return the number of this process, and of all in the default group."""
    import torch.distributed as dist

    ready = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if ready else (0, 1)
