"""One forward pass, followed operator by operator: what each output of each layer sees of the input."""

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
from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import forward_error
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.layout import units_of
from spatialprobe.model.modes import enter_dispatch_mode, enter_function_mode
from spatialprobe.model.select import Layer, takes_hooks, unwrap
from spatialprobe.model.settings import leave_inference_mode
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.model.weights import device_of, lacks_batch
from spatialprobe.text import kind_of

_WHAT_TO_GIVE = (
    "Give the shape that the model takes, batch included, or a tuple with one for each input; or an example of real "
    "values."
)
_WEIGHTS_WITHOUT_VALUES = (
    "Its weights are on the meta device, where tensors have no values, and it needs some: make the model on a real "
    "device, or load its weights first."
)


@dataclass
class Trace:
    """What one forward pass showed."""

    reaches: dict[str, list[Reach | str]] = field(default_factory=dict)  # of each run; or why there is none
    runs: list[tuple[str, Reach | str]] = field(default_factory=list)  # the same of all layers, as they ended
    before_source: set[str] = field(default_factory=set)
    input_size: tuple[int, ...] = ()
    ignored: dict[str, None] = field(default_factory=dict)
    fallback: str | None = None


def trace_fields(model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None) -> Trace:
    """Return what a pass shows: on meta tensors, or, where the model does not run on them, on its device."""
    try:
        trace, refused = _on_meta(model, layers, asked, origin)
        if refused is None or not _has_values(model):
            return trace
    except (ArgumentError, AmbiguousCallError):
        raise
    except Exception as error:  # whatever a model does that meta tensors do not allow
        refused = error
        if not _has_values(model):
            hint = _WEIGHTS_WITHOUT_VALUES if "meta" in str(error).lower() else _WHAT_TO_GIVE
            raise forward_error(model, asked.arguments, error, hint) from error
    try:
        trace = _Tracer(model, layers, asked, origin, meta=False).run()
    except (ArgumentError, AmbiguousCallError):
        raise
    except Exception as error:
        raise forward_error(model, asked.arguments, error, _WHAT_TO_GIVE) from error
    trace.fallback = f"{type(refused).__name__}: {refused}"
    return trace


def _on_meta(
    model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None
) -> tuple[Trace, Exception | None]:
    """A pass on meta tensors, and the last error of an operator that they do not allow, if the model went on.

    Watching Python takes time, and is left out until a constant is needed whose values only Python knows.
    """
    for watched in (False, True):
        tracer = _Tracer(model, layers, asked, origin, meta=True, watched=watched)
        try:
            trace = tracer.run()
        except UnseenConstant:
            continue
        except RuntimeError as error:
            if tracer.refused is not None and "TorchScript" in str(error):  # which keeps nothing of what was refused
                raise tracer.refused from error
            raise
        if not tracer.missed:
            break
    return trace, tracer.refused


class _Tracer:
    """One forward pass with a hook on every module."""

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
        self._model = unwrap(model)  # a wrapper may want devices of its own
        self._layers = layers
        self._asked = asked
        self._origin = origin
        self._meta = meta
        self._follower = IntervalMode(meta=meta, watched=watched)
        self._watched = watched
        self._read_before: list[tuple[nn.Module, Reach | None]] = []  # of the ignored modules that are running
        self._trace = Trace()
        self._origin_ran = False
        self._nonlinearities: Nonlinearities | None = None
        if asked.at == "post_activation":
            followed = [layer for layer in layers if takes_hooks(layer.module)]
            self._nonlinearities = Nonlinearities(self._model, followed, self._sees_after)

    @property
    def missed(self) -> bool:
        """Whether values were needed that only a pass that watches Python would know."""
        return self._follower.constants.missed

    @property
    def refused(self) -> Exception | None:
        """The last error of an operator that meta tensors do not allow."""
        return self._follower.refused

    def run(self) -> Trace:
        """Follow the pass."""
        with undo_block() as undo:
            leave_inference_mode(undo)  # it would keep torch from showing every operator
            state, arguments = self._prepared()
            self._seed(arguments)
            with EvaluationMode(self._model, values=not self._meta), undo_block() as watching:
                self._watch(watching)
                torch.func.functional_call(self._model, state, arguments)
                if self._nonlinearities is not None:
                    self._nonlinearities.settle()
        return self._trace

    def _watch(self, undo: Undo) -> None:
        """See every layer and every operator."""
        hold_eager(undo)
        hooks = Hooks(undo)
        for layer in self._layers:
            if not takes_hooks(layer.module):
                continue
            hooks.add(layer.module, ProbeHook(partial(_Tracer._layer_ran, self), layer))
            if self._asked.ignore and self._asked.ignores(layer.module):
                hooks.add_before(layer.module, ProbeHook(self._gate_begins))
        if self._nonlinearities is not None:
            self._nonlinearities.watch(undo)
        if self._watched:
            enter_function_mode(undo, PythonWatch(self._follower, meta=self._meta))
        enter_dispatch_mode(undo, self._follower)

    def _prepared(self) -> tuple[dict[str, torch.Tensor], tuple[Any, ...]]:
        """Parameters, buffers and inputs for the pass: meta tensors, or the real ones with buffers of their own."""
        parameters, buffers = dict(self._model.named_parameters()), dict(self._model.named_buffers())
        if self._meta:
            state = {name: torch.empty_like(value, device="meta") for name, value in parameters.items()}
            to_meta = partial(self._follower.constants.to_meta, lasting=True)
            moved = {name: to_meta(value) for name, value in buffers.items()}
            arguments = tree_map_only(torch.Tensor, self._follower.constants.to_meta, self._asked.arguments)
        else:
            state = {name: value.detach() for name, value in parameters.items()}
            moved = {name: value.detach().clone() for name, value in buffers.items()}
            arguments = tree_map_only(torch.Tensor, self._real, self._asked.arguments)
            self._follower.origins.start_with(
                [*_living_tensors(), *state.values(), *moved.values(), *tree_leaves(arguments)]
            )
        for name, value in parameters.items():
            frozen = None if value.requires_grad or value.is_meta else value
            self._follower.constants.weigh(state[name], frozen, lasting=True)
        return state | moved, arguments

    def _real(self, example: torch.Tensor) -> torch.Tensor:
        """An input with values, on the model's device: the example's own, or drawn where only a shape was given."""
        if not example.is_meta:
            return example.detach().clone()
        drawn = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), device="cpu")
        drawn = drawn.to(device_of(self._model), example.dtype)
        self._follower.constants.doubt(drawn)
        return drawn

    def _seed(self, arguments: tuple[Any, ...]) -> None:
        """Each position of the chosen input sees itself; with a source, nothing is seen until it has run."""
        self._input = self._asked.tensor_in(arguments)
        if self._origin is None:
            self._see_itself(self._input, self._asked.input_axes(self._input, self._model))
        else:
            self._follower.constants.weigh(self._input)  # an image, of any values
        scripted = [one for one in self._model.modules() if isinstance(one, torch.jit.ScriptModule)]
        self._follower.scripted = bool(scripted)
        if not self._meta and any("prim::tolist" in _graph_of(one) for one in scripted):
            self._follower.read_everything("tolist")

    def _see_itself(self, tensor: torch.Tensor, dims: Sequence[int]) -> None:
        self._trace.input_size = tuple(tensor.shape[dim] for dim in dims)
        spans = tuple(Span.identity(tensor.shape[dim], dim, tensor.ndim) for dim in dims)
        seen = Reach(tuple(tensor.shape), spans)
        self._follower.everything = seen.reduced(range(tensor.ndim)).inexact()
        self._follower.memory.write(tensor, seen)

    def _gate_begins(self, module: nn.Module, *_: Any) -> None:
        """Forward pre-hook of an ignored module: what it reads is forgotten when it ends."""
        self._read_before.append((module, self._follower.read))

    def _layer_ran(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook: note what the output sees."""
        if module is not layer.module:
            return
        self._follower.within_torch += 1  # what is looked at here the model does not read
        try:
            self._note(layer, module, args, output)
        finally:
            self._follower.within_torch -= 1

    def _note(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
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
        runs = self._trace.reaches.setdefault(layer.name, [])
        if self._nonlinearities is None or isinstance(seen, str):
            runs.append(seen)
        else:
            self._nonlinearities.follow(layer, runs, output)

    def _sees_after(self, value: torch.Tensor) -> Reach:
        """Return what the value of a nonlinearity sees; the model does not read it here."""
        self._follower.within_torch += 1
        try:
            return self._follower.sees_now(value)
        finally:
            self._follower.within_torch -= 1

    def _check_batch(self, layer: Layer, output: torch.Tensor) -> None:
        if self._asked.axes is None and lacks_batch(layer.module, self._input, output):
            shape = tuple(self._input.shape)
            raise ArgumentError(
                f"Layer {layer.name!r}, {kind_of(layer.module)}, took the input {shape} for one image without "
                f"a batch axis: give the whole shape, {(1, *shape)}; or name the input's spatial axes with axes=."
            )

    def _start_at(self, layer: Layer, output: Any) -> None:
        if self._origin_ran:
            raise AmbiguousCallError(f"source={layer.name!r} runs more than once: fields can begin at one grid only.")
        if not isinstance(output, torch.Tensor):
            raise UnsupportedOutputError(f"source={layer.name!r} returns {kind_of(output)}, not one tensor.")
        self._origin_ran = True
        units = self._asked.unit_axes
        if units is None and output.ndim > 2:
            units = units_of(self._asked.source_layout, output.ndim)
        self._see_itself(output, resolve_axes(output.ndim, units, "unit_axes"))

    def _ignore(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """What a gate returns is a constant; what a gated module returns is its input, times a constant."""
        self._trace.ignored[type(module).__name__] = None
        while self._read_before:
            begun, self._follower.read = self._read_before.pop()
            if begun is module:
                break
        memory = self._follower.memory
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and has_storage(leaf):
                alike = [one for one in args if isinstance(one, torch.Tensor) and one.shape == leaf.shape]
                memory.write(leaf, memory.read(alike[0]) if alike else constant(leaf.shape))
                self._follower.constants.weigh(leaf)


def _has_values(model: nn.Module) -> bool:
    """Whether the model could run on a real device."""
    return not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


def _graph_of(module: torch.jit.ScriptModule) -> str:
    """What a part in TorchScript does, written out; nothing for one that cannot be called."""
    return str(module.inlined_graph) if hasattr(module, "forward") else ""


def _living_tensors() -> list[torch.Tensor]:
    """All tensors that there are: what exists before a pass does not depend on its input."""
    return [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
