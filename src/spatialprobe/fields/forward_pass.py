"""One forward pass, followed operator by operator: what each output of each layer sees of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from spatialprobe.errors import AmbiguousCallError, ArgumentError, UnsupportedOutputError
from spatialprobe.fields.dispatch import Follower, ReadingWatch
from spatialprobe.fields.intervals import Span
from spatialprobe.fields.question import Question, checked_axes
from spatialprobe.fields.reach import Reach, constant
from spatialprobe.model.compiled import hold_eager
from spatialprobe.model.evaluation import EvaluationMode
from spatialprobe.model.forward import forward_error
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.select import Layer, takes_hooks, unwrapped
from spatialprobe.model.settings import (
    enter_dispatch_mode,
    enter_function_mode,
    leave_inference_mode,
)
from spatialprobe.model.undo import Undo, undoing
from spatialprobe.model.weights import device_of, lacks_batch
from spatialprobe.text import kind_of

_WHAT_TO_GIVE = (
    "Give the shape that the model takes, batch included, or a tuple with one for each input; or an example of real "
    "values."
)


@dataclass
class Trace:
    """What one forward pass showed."""

    reaches: dict[str, list[Reach | str]] = field(default_factory=dict)  # of each run; or why there is none
    before_source: set[str] = field(default_factory=set)
    input_size: tuple[int, ...] = ()
    ignored: dict[str, None] = field(default_factory=dict)
    fallback: str | None = None


def traced(model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None) -> Trace:
    """Followed on meta tensors, or, where the model does not run on them, on its device."""
    try:
        return _Tracer(model, layers, asked, origin, meta=True).run()
    except (ArgumentError, AmbiguousCallError):
        raise
    except Exception as error:  # whatever a model does that meta tensors do not allow
        fallback = f"{type(error).__name__}: {error}"
        if any(value.is_meta for value in (*model.parameters(), *model.buffers())):
            raise forward_error(model, asked.arguments, error, _WHAT_TO_GIVE) from error
    try:
        trace = _Tracer(model, layers, asked, origin, meta=False).run()
    except (ArgumentError, AmbiguousCallError):
        raise
    except Exception as error:
        raise forward_error(model, asked.arguments, error, _WHAT_TO_GIVE) from error
    trace.fallback = fallback
    return trace


class _Tracer:
    """One forward pass with a hook on every module."""

    def __init__(
        self, model: nn.Module, layers: list[Layer], asked: Question, origin: Layer | None, *, meta: bool
    ) -> None:
        self._model = unwrapped(model)  # a wrapper may want devices of its own
        self._layers = layers
        self._asked = asked
        self._origin = origin
        self._meta = meta
        self._follower = Follower(meta=meta)
        self._trace = Trace()
        self._origin_ran = False

    def run(self) -> Trace:
        """Follow the pass."""
        with undoing() as undo:
            leave_inference_mode(undo)  # it would keep torch from showing every operator
            state, arguments = self._prepared()
            self._seed(arguments)
            with EvaluationMode(self._model, values=not self._meta), undoing() as watching:
                self._watch(watching)
                torch.func.functional_call(self._model, state, arguments)
        return self._trace

    def _watch(self, undo: Undo) -> None:
        """See every layer and every operator."""
        hold_eager(undo)
        hooks = Hooks(undo)
        for layer in self._layers:
            if not takes_hooks(layer.module):
                continue
            hooks.add(layer.module, ProbeHook(partial(_Tracer._layer_ran, self), layer))
        if not self._meta:
            enter_function_mode(undo, ReadingWatch(self._follower))
        enter_dispatch_mode(undo, self._follower)

    def _prepared(self) -> tuple[dict[str, torch.Tensor], tuple[Any, ...]]:
        """Parameters, buffers and inputs for the pass: meta tensors, or the real ones with buffers of their own."""
        buffers = dict(self._model.named_buffers())
        if not self._meta:
            parameters = {name: value.detach() for name, value in self._model.named_parameters()}
            cloned = {name: value.detach().clone() for name, value in buffers.items()}
            self._mark_masks(cloned, buffers)
            state, arguments = parameters | cloned, tree_map_only(torch.Tensor, self._real, self._asked.arguments)
            self._follower.start_with([*state.values(), *_attributes(self._model), *tree_leaves(arguments)])
            return state, arguments
        to_meta = self._follower.to_meta
        state = {name: torch.empty_like(value, device="meta") for name, value in self._model.named_parameters()}
        moved = {name: to_meta(value) for name, value in buffers.items()}
        self._mark_masks(moved, buffers)
        return state | moved, tree_map_only(torch.Tensor, to_meta, self._asked.arguments)

    def _real(self, example: torch.Tensor) -> torch.Tensor:
        """An input with values, on the model's device: the example's own, or drawn where only a shape was given."""
        if not example.is_meta:
            return example.detach().clone()
        drawn = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), device="cpu")
        return drawn.to(device_of(self._model), example.dtype)

    def _mark_masks(self, state: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]) -> None:
        """Buffers that hide what they meet: truth values, zeros and ones, or infinities."""
        for name, value in buffers.items():
            if _is_mask(value):
                self._follower.memory.bind(state[name], constant(value.shape).as_mask())

    def _seed(self, arguments: tuple[Any, ...]) -> None:
        """Each position of the chosen input sees itself; with a source, nothing is seen until it has run."""
        self._input = self._asked.tensor_in(arguments)
        if self._origin is None:
            self._see_itself(self._input, self._asked.axes, "axes")

    def _see_itself(self, tensor: torch.Tensor, axes: Sequence[int] | None, called: str) -> None:
        dims = checked_axes(tensor.ndim, axes, called)
        self._trace.input_size = tuple(tensor.shape[dim] for dim in dims)
        spans = tuple(Span.identity(tensor.shape[dim], dim, tensor.ndim) for dim in dims)
        seen = Reach(tuple(tensor.shape), spans)
        self._follower.everything = seen.reduced(range(tensor.ndim)).inexact("a value read outside torch")
        self._follower.memory.write(tensor, seen)

    def _layer_ran(self, layer: Layer, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Forward hook: note what the output sees."""
        if module is not layer.module:
            return
        if self._asked.ignores(module):
            self._ignore(module, args, output)
        if self._origin is not None and not self._origin_ran:
            self._trace.before_source.add(layer.name)
        if self._origin is not None and module is self._origin.module:
            self._start_at(layer, output)
        runs = self._trace.reaches.setdefault(layer.name, [])
        if isinstance(output, torch.Tensor):
            self._check_batch(layer, output)
            runs.append(self._follower.reach_of(output))
        else:
            runs.append(f"it returns {kind_of(output)}, not one tensor.")

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
        self._see_itself(output, self._asked.unit_axes, "unit_axes")

    def _ignore(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """What a gate returns is a constant; what a gated module returns is its input, times a constant."""
        self._trace.ignored[type(module).__name__] = None
        memory = self._follower.memory
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                alike = [one for one in args if isinstance(one, torch.Tensor) and one.shape == leaf.shape]
                memory.write(leaf, memory.read(alike[0]) if alike else constant(leaf.shape))


def _attributes(model: nn.Module) -> list[Any]:
    """What modules hold in plain attributes, tensors among it."""
    return [leaf for module in model.modules() for leaf in tree_leaves(list(vars(module).values()))]


def _is_mask(buffer: torch.Tensor) -> bool:
    if buffer.is_meta or buffer.numel() < 2 or buffer.numel() > 2**22:
        return False
    if not buffer.is_floating_point():
        return buffer.dtype is torch.bool
    whole = (buffer == 0) | (buffer == 1)
    return bool(buffer.isinf().any() or (whole.all() and (buffer == 0).any() and (buffer == 1).any()))
