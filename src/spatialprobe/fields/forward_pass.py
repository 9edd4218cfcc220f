"""A forward pass that is followed operator by operator, to find what each output of each layer sees of the input."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from spatialprobe.errors import AmbiguousCallError, ArgumentError, UnsupportedOutputError
from spatialprobe.fields.constants import UnseenConstant
from spatialprobe.fields.dispatch import IntervalMode
from spatialprobe.fields.intervals import Span
from spatialprobe.fields.memory import has_storage
from spatialprobe.fields.nonlinearities import Nonlinearities
from spatialprobe.fields.python_values import PythonWatch
from spatialprobe.fields.question import Question, resolve_axes
from spatialprobe.fields.reach import Reach, constant
from spatialprobe.fields.recording import Recording
from spatialprobe.fields.recurrent import RecurrentLayers
from spatialprobe.fields.token_grid import token_reach
from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import forward_error
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.layout import describe_misfit, fits, units_of
from spatialprobe.model.modes import enter_dispatch_mode, enter_function_mode
from spatialprobe.model.placement import check_whole, is_offloaded, skip_loading
from spatialprobe.model.select import Layer, takes_hooks, without_devices
from spatialprobe.model.settings import leave_inference_mode, pause_collection
from spatialprobe.model.tokens import Tokens
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.model.weights import device_of, lacks_batch
from spatialprobe.tensors import empty_on_meta
from spatialprobe.text import kind_of

_WHAT_TO_PASS = (
    "Pass the shape that the model takes, batch included, or a tuple with one for each input; or a tensor as an "
    "example."
)
_WEIGHTS_WITHOUT_VALUES = (
    "Its weights are on the meta device, where tensors have no values, but the model reads values. Create the model on "
    "a real device, or load its weights first."
)


@dataclass
class Trace:
    """The findings of one forward pass."""

    reaches: dict[str, list[Reach | str]] = field(default_factory=dict)  # of each run; or why there is none
    runs: list[tuple[str, Reach | str]] = field(default_factory=list)  # of all layers, in the order in which they ended
    before_source: set[str] = field(default_factory=set)
    input_size: tuple[int, ...] = ()
    ignored: dict[str, None] = field(default_factory=dict)
    fallback: str | None = None
    recording: Recording | None = None  # of a pass from the input, without values, if it can be repeated


def trace_fields(model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None) -> Trace:
    """Return the findings of a pass: on meta tensors, or, where the model does not run on them, on its device."""
    try:
        with pause_collection():
            trace, refused = _trace_on_meta(model, layers, asked, origin)
        if refused is None or not _has_values(model):
            return trace
    except (ArgumentError, AmbiguousCallError, UnsupportedOutputError):
        raise
    except Exception as error:  # the model did something that meta tensors do not support
        refused = error
        if not _has_values(model):
            hint = _WEIGHTS_WITHOUT_VALUES if "meta" in str(error).lower() else _WHAT_TO_PASS
            raise forward_error(model, asked.arguments, error, hint) from error
    try:
        trace = _Tracer(model, layers, asked, origin, meta=False).run()
    except (ArgumentError, AmbiguousCallError, UnsupportedOutputError):
        raise
    except Exception as error:
        raise forward_error(model, asked.arguments, error, _WHAT_TO_PASS) from error
    trace.fallback = f"{type(refused).__name__}: {refused}"
    return trace


def _trace_on_meta(
    model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None
) -> tuple[Trace, Exception | None]:
    """Return the findings on meta tensors, and the last error of an operator that the model went on after, if any.

    Watching Python takes time, and is left out until a constant is needed whose values only Python knows.
    """
    for watched in (False, True):
        tracer = _Tracer(model, layers, asked, origin, meta=True, watched=watched)
        try:
            trace = tracer.run()
        except UnseenConstant:
            continue
        except RuntimeError as error:
            if tracer.refused is not None and "TorchScript" in str(error):  # TorchScript drops the original error
                raise tracer.refused from error
            raise
        if not tracer.missed:
            break
    return trace, tracer.refused


class _Tracer:
    """A forward pass with a hook on every module."""

    def __init__(
        self,
        model: nn.Module,
        layers: list[Layer],
        asked: Question,
        origin: Layer | None,
        *,
        meta: bool,
        watched: bool = True,
    ) -> None:
        check_whole(model)
        self._model = without_devices(model)  # a wrapper may require devices of its own
        self._layers = layers
        self._asked = asked
        self._origin = origin
        self._meta = meta
        self._follower = IntervalMode(meta=meta, watched=watched)
        self._watched = watched
        if meta and origin is None:
            self._follower.recording = Recording()
        self._read_before: list[tuple[nn.Module, Reach | None]] = []  # of the ignored modules that are running
        self._trace = Trace()
        self._origin_ran = False
        self._nonlinearities: Nonlinearities | None = None
        if asked.at == "post_activation":
            followed = [layer for layer in layers if takes_hooks(layer.module)]
            self._nonlinearities = Nonlinearities(self._model, followed, self._reach_after)

    @property
    def missed(self) -> bool:
        """Whether values were needed that only a pass that watches Python can know."""
        return self._follower.constants.missed

    @property
    def refused(self) -> Exception | None:
        """The last error of an operator that meta tensors do not support."""
        return self._follower.refused

    def run(self) -> Trace:
        """Run the model and return the findings."""
        with undo_block() as undo:
            leave_inference_mode(undo)  # in inference mode torch does not dispatch every operator
            state, arguments = self._prepare()
            self._seed_input(arguments)
            with EvaluationMode(self._model, values=not self._meta), undo_block() as watching:
                self._watch(watching)
                if self._meta:
                    skip_loading(watching, self._model)
                torch.func.functional_call(self._model, state, arguments)
                if self._nonlinearities is not None:
                    self._nonlinearities.settle()
        recording = self._follower.recording
        if recording is not None and recording.is_whole and self._follower.read is None:
            self._trace.recording = recording
        return self._trace

    def _watch(self, undo: Undo) -> None:
        """Watch every layer and every operator, until `undo` runs."""
        hold_eager(undo)
        hooks = Hooks(undo)
        for layer in self._layers:
            if not takes_hooks(layer.module):
                continue
            hooks.add(layer.module, ProbeHook(partial(_Tracer._on_layer_end, self), layer))
            if self._asked.ignore and self._asked.ignores(layer.module):
                hooks.add_before(layer.module, ProbeHook(self._on_gate_begin))
        if self._nonlinearities is not None:
            self._nonlinearities.watch(undo)
        if self._watched:
            enter_function_mode(undo, PythonWatch(self._follower, meta=self._meta))
        if self._meta and any(isinstance(one, nn.RNNBase) for one in self._model.modules()):
            enter_function_mode(undo, RecurrentLayers(self._follower))
        enter_dispatch_mode(undo, self._follower)

    def _prepare(self) -> tuple[dict[str, torch.Tensor], tuple[Any, ...]]:
        """Return parameters, buffers and inputs for the pass: meta tensors, or the real ones and copies of buffers."""
        parameters, buffers = dict(self._model.named_parameters()), dict(self._model.named_buffers())
        if self._meta:
            state = {name: empty_on_meta(value) for name, value in parameters.items()}
            to_meta = partial(self._follower.constants.to_meta, lasting=True)
            moved = {name: to_meta(value) for name, value in buffers.items()}
            arguments = tree_map_only(torch.Tensor, self._follower.constants.to_meta, self._asked.arguments)
        else:
            state = {name: value.detach() for name, value in parameters.items() if not value.is_meta}
            moved = {name: value.detach().clone() for name, value in buffers.items() if not value.is_meta}
            arguments = tree_map_only(torch.Tensor, self._to_real, self._asked.arguments)
            self._follower.origins.start_with(
                [*_find_living_tensors(), *state.values(), *moved.values(), *tree_leaves(arguments)]
            )
        for name in state:
            value = parameters[name]
            frozen = None if value.requires_grad or value.is_meta else value
            self._follower.constants.note_weight(state[name], frozen, lasting=True)
        return state | moved, arguments

    def _to_real(self, example: torch.Tensor) -> torch.Tensor:
        """Return an input with values, on the model's device: those of the example, or random ones for a shape."""
        if not example.is_meta:
            return example.detach().clone()
        drawn = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), device="cpu")
        drawn = drawn.to(device_of(self._model), example.dtype)
        self._follower.constants.note_unknown(drawn)
        return drawn

    def _seed_input(self, arguments: tuple[Any, ...]) -> None:
        """Let each position of the chosen input see itself; with a source, nothing is seen until it has run."""
        self._input = self._asked.tensor_in(arguments)
        if self._origin is None:
            dims, shape = self._asked.input_axes(self._input, self._model), tuple(self._input.shape)
            self._see(self._input, _see_axes(shape, dims), tuple(shape[dim] for dim in dims))
        else:
            self._follower.constants.note_weight(self._input)  # an image may have any values
        scripted = [one for one in self._model.modules() if isinstance(one, torch.jit.ScriptModule)]
        self._follower.scripted = bool(scripted)
        if not self._meta and any("prim::tolist" in _graph_text(one) for one in scripted):
            self._follower.read_everything("tolist")

    def _see(self, tensor: torch.Tensor, seen: Reach, size: tuple[int, ...]) -> None:
        """Begin fields at a tensor, which sees so much of a grid of this size."""
        self._trace.input_size = size
        self._follower.everything = seen.reduced(range(tensor.ndim)).inexact()
        self._follower.memory.write(tensor, seen)

    def _on_gate_begin(self, module: nn.Module, *_: Any) -> None:
        """Note that an ignored module begins (a forward pre-hook): what it reads is forgotten when it ends."""
        self._read_before.append((module, self._follower.read))

    def _on_layer_end(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note what the output of a layer sees (a forward hook)."""
        if module is not layer.module:
            return
        self._follower.within_torch += 1  # what this library reads here, the model does not read
        try:
            self._note(layer, module, args, output)
        finally:
            self._follower.within_torch -= 1

    def _note(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note what one run of a layer returned, and what it sees."""
        if self._asked.ignore and self._asked.ignores(module):
            self._ignore(module, args, output)
        if self._origin is not None and not self._origin_ran:
            self._trace.before_source.add(layer.name)
        if self._origin is not None and module is self._origin.module:
            self._start_at(layer, output)
        seen: Reach | str = f"it returns {kind_of(output)}, not one tensor."
        if isinstance(output, torch.Tensor) and output.is_nested:
            seen = "it returns a nested tensor, whose parts have no one grid of units."
        elif isinstance(output, torch.Tensor):
            self._check_batch(layer, output)
            seen = self._follower.sees_now(output)
        self._trace.runs.append((layer.name, seen))
        if self._follower.recording is not None:
            self._follower.recording.add((layer.name, seen if isinstance(seen, str) else output))
        runs = self._trace.reaches.setdefault(layer.name, [])
        if self._nonlinearities is None or isinstance(seen, str):
            runs.append(seen)
        else:
            self._nonlinearities.follow(layer, runs, output)

    def _reach_after(self, value: torch.Tensor) -> Reach:
        """Return what the output of a nonlinearity sees; the model does not read it here."""
        self._follower.within_torch += 1
        try:
            return self._follower.sees_now(value)
        finally:
            self._follower.within_torch -= 1

    def _check_batch(self, layer: Layer, output: torch.Tensor) -> None:
        """Raise an error if a layer processed the input as one image without a batch axis."""
        if self._asked.axes is None and lacks_batch(layer.module, self._input, output):
            shape = tuple(self._input.shape)
            raise ArgumentError(
                f"Layer {layer.name!r}, {kind_of(layer.module)}, took the input {shape} for one image without "
                f"a batch axis. Pass the whole shape, {(1, *shape)}; or name the input's spatial axes with axes=."
            )

    def _start_at(self, layer: Layer, output: Any) -> None:
        """Let each unit of the source layer see itself."""
        if self._origin_ran:
            raise AmbiguousCallError(
                f"source={layer.name!r} runs more than once, but fields can begin at one grid only. Pass a layer that "
                "runs once."
            )
        if not isinstance(output, torch.Tensor):
            raise UnsupportedOutputError(
                f"source={layer.name!r} returns {kind_of(output)}, not one tensor. Pass a layer that returns a tensor."
            )
        self._origin_ran = True
        self._see(output, *see_units(self._asked, layer.name, tuple(output.shape)))

    def _ignore(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Treat the output of an ignored module as a constant, or as its input if it has the input's shape."""
        self._trace.ignored[type(module).__name__] = None
        while self._read_before:
            begun, self._follower.read = self._read_before.pop()
            if begun is module:
                break
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and has_storage(leaf):
                alike = [one for one in args if isinstance(one, torch.Tensor) and one.shape == leaf.shape]
                self._follower.overwrite(alike[:1], [leaf], partial(_see_as, tuple(leaf.shape)))
                self._follower.constants.note_weight(leaf)


def see_units(asked: Question, layer: str, shape: tuple[int, ...]) -> tuple[Reach, tuple[int, ...]]:
    """Return what the output of a source layer sees of its own grid, each unit itself; and the size of the grid.

    Raises:
        UnsupportedOutputError: its output is not of the layout that was asked for.
    """
    units, layout = asked.unit_axes, asked.source_layout
    if units is None and isinstance(layout, Tokens) and len(shape) > 2:
        if not fits(layout, shape):
            raise UnsupportedOutputError(describe_misfit(layer, shape, layout))
        return token_reach(layout, shape), (layout.height, layout.width)
    if units is None and len(shape) > 2:
        units = units_of(layout, len(shape))
    dims = resolve_axes(len(shape), units, "unit_axes")
    return _see_axes(shape, dims), tuple(shape[dim] for dim in dims)


def _see_axes(shape: tuple[int, ...], dims: Sequence[int]) -> Reach:
    """Return what a tensor sees of itself, where each position along some dimensions sees itself."""
    return Reach(shape, tuple(Span.identity(shape[dim], dim, len(shape)) for dim in dims))


def _see_as(shape: tuple[int, ...], inputs: Sequence[Reach]) -> Sequence[Reach]:
    """Return what one input sees, or a constant of a shape if there is none."""
    return inputs or [constant(shape)]


def _has_values(model: nn.Module) -> bool:
    """Return whether the model could run on a real device."""
    return is_offloaded(model) or not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


def _graph_text(module: torch.jit.ScriptModule) -> str:
    """Return the code of a TorchScript module's forward; an empty string if it has none."""
    return str(module.inlined_graph) if hasattr(module, "forward") else ""


def _find_living_tensors() -> list[torch.Tensor]:
    """Return all existing tensors: what exists before a pass does not depend on its input."""
    return [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
