"""Predict what a capture would keep, without computing values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from spatialprobe.activations.probe import Probe
from spatialprobe.activations.recorder import Entry
from spatialprobe.activations.table import format_layers, format_layers_html
from spatialprobe.arguments import check_keywords
from spatialprobe.errors import SpatialProbeError, UnsupportedOutputError, describe_error
from spatialprobe.mappings import CompletedMapping
from spatialprobe.model.evaluation import Restored
from spatialprobe.model.forward import forward_error
from spatialprobe.model.inputs import copy_inputs
from spatialprobe.model.modes import enter_dispatch_mode
from spatialprobe.model.names import find_name
from spatialprobe.model.placement import is_offloaded, skip_loading
from spatialprobe.model.select import Selector, model_name, without_devices
from spatialprobe.model.settings import set_gradients
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.model.weights import device_of
from spatialprobe.tensors import count_bytes
from spatialprobe.text import describe_left_out, format_bytes, format_count

_UNFAKEABLE = {
    torch.ops.aten.quantize_per_tensor,
    torch.ops.aten.quantize_per_tensor_dynamic,
    torch.ops.aten.quantize_per_channel,
    torch.ops.aten.to_mkldnn,  # after it, TorchScript's kernels would read memory that a fake tensor does not have
}


@dataclass(frozen=True)
class PlannedLayer:
    """The output that one layer would return in one forward pass of the model.

    >>> import torch, spatialprobe as sp
    >>> sp.plan(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3)), torch.empty(8, 3, 32, 32, device="meta"))["0"]
    PlannedLayer(shape=(8, 6, 30, 30), dtype=torch.float32, nbytes=172800, calls=1, module_type='Conv2d')
    """

    shape: tuple[int, ...]  # of the first run
    dtype: torch.dtype
    nbytes: int  # of all runs together
    calls: int  # the number of runs
    module_type: str


@dataclass(frozen=True, eq=False)
class Plan(CompletedMapping[str, PlannedLayer]):
    """The output that each layer would return, by name, in the order in which the layers first run.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 12, 3))
    >>> plan = sp.plan(model, torch.empty(8, 3, 32, 32, device="meta"))
    >>> list(plan), plan["1"].shape, plan.nbytes, plan.fallback
    (['0', '1'], (8, 12, 28, 28), 473856, None)
    """

    layers: Mapping[str, PlannedLayer]
    model: str
    fallback: str | None  # why the pass ran on real tensors instead of fake ones; None if it ran on fake ones
    left_out: Mapping[str, str] = field(default_factory=dict)  # chosen layers that are not in the plan, and why

    @property
    def nbytes(self) -> int:
        """The bytes of all layers together."""
        return sum(layer.nbytes for layer in self.layers.values())

    def __getitem__(self, layer: str) -> PlannedLayer:
        return self.layers[find_name(layer, self.layers, "The plan has no layer")]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                name or "(model)",
                layer.module_type,
                str(layer.calls),
                str(layer.shape),
                str(layer.dtype).removeprefix("torch."),
                format_bytes(layer.nbytes),
            )
            for name, layer in self.layers.items()
        ]

    @property
    def _heading(self) -> str:
        return f"Plan for {self.model}: {format_count(len(self), 'layer')}, {format_bytes(self.nbytes)} per forward"

    def __repr__(self) -> str:
        return "\n".join([format_layers(self._heading, self._rows()), *self._left_out_words()])

    def _left_out_words(self) -> list[str]:
        return list(filter(None, [describe_left_out(self.left_out)]))

    def _repr_html_(self) -> str:
        ran = [] if self.fallback is None else [f"The model ran for real: {self.fallback}."]
        return format_layers_html(self._heading, self._rows(), [*ran, *self._left_out_words()])


def plan(model: nn.Module, *inputs: Any, kwargs: Mapping[str, Any] | None = None, layers: Selector = nn.Conv2d) -> Plan:
    """Return the shape, dtype, bytes and number of runs of each layer's output, without computing any value.

    The forward pass runs on fake tensors, which have shapes, dtypes and devices but no values, so that autocast acts on
    them as on real ones. Where fake tensors are not supported (a model that reads values, sparse or quantized
    tensors), it runs on real ones, without gradients, and `fallback` says why. The model runs in its current mode; the
    model, the inputs and all random states are restored afterwards. Layers that do not return one tensor cannot be
    planned: choose others.

    Raises:
        ForwardError: the model raises an error on these inputs.
        LayerNotFoundError, LayerNotRunError, UnsupportedOutputError: as for `Probe`.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3))
    >>> sp.plan(model, torch.empty(8, 3, 32, 32, device="meta"))
    Plan for Sequential: 2 layers, 462.8 KiB per forward
      layer  type    runs  shape            dtype    size
      0      Conv2d     1  (8, 6, 30, 30)   float32  168.8 KiB
      2      Conv2d     1  (8, 12, 28, 28)  float32  294.0 KiB
    """
    fallback = None
    rehearsal = _Rehearsal(model, layers)
    check_keywords(kwargs)
    given = dict(kwargs or {})
    try:
        rehearsal.run(inputs, given, fake=True)
    except Exception as error:  # whatever a model does that fake tensors do not allow
        fallback = f"on fake tensors, which have no values, it raised {describe_error(error)}"
        rehearsal = _Rehearsal(model, layers)
        try:
            rehearsal.run(inputs, given, fake=False)
        except SpatialProbeError:
            raise
        except Exception as cause:
            raise forward_error(model, (inputs, given), cause, _describe_hint(inputs)) from cause
    return Plan(rehearsal.planned_layers(), model_name(model), fallback, rehearsal.left_out)


class _Rehearsal:
    """One forward pass of a model, which is restored afterwards, and the outputs of its layers."""

    def __init__(self, model: nn.Module, layers: Selector) -> None:
        self._model = model
        self._runs: dict[str, list[PlannedLayer]] = {}
        self._fake = False
        self._probe = Probe(model, layers, transform=self._outline)

    def run(self, inputs: tuple[Any, ...], kwargs: dict[str, Any], *, fake: bool) -> None:
        """Run the model on fake tensors, or on real ones with copies of its buffers and inputs."""
        bare = without_devices(self._model)  # a wrapper may require devices of its own
        state: dict[str, torch.Tensor] = {name: value.detach() for name, value in bare.named_parameters()}
        state |= {name: value.detach().clone() for name, value in bare.named_buffers()}
        arguments: Any = (inputs, kwargs)
        with Restored(self._model, values=not fake), undo_block() as undo, self._probe as probe:
            probe._set_listener(self._note_run)
            set_gradients(undo, False)
            self._fake = fake
            if fake:
                skip_loading(undo, bare)
                device = torch.device("meta") if is_offloaded(bare) else device_of(bare)
                state, arguments = _enter_fake(undo, state, arguments, device)
            else:
                state = {} if is_offloaded(bare) else state  # what loads the weights does not take others
                arguments = copy_inputs(arguments)
            torch.func.functional_call(bare, state, *arguments)

    @property
    def left_out(self) -> Mapping[str, str]:
        """The chosen layers that returned no single tensor or did not run, and why."""
        return self._probe.left_out

    def planned_layers(self) -> dict[str, PlannedLayer]:
        """Return the output of each layer, in the order in which the layers first ran."""
        return {
            name: replace(runs[0], nbytes=sum(run.nbytes for run in runs), calls=len(runs))
            for name, runs in self._runs.items()
        }

    def _outline(self, value: torch.Tensor) -> torch.Tensor:
        """Remember the shape, dtype and size of a live value; return an empty tensor to keep in its place."""
        if value.is_nested:
            raise UnsupportedOutputError("A nested tensor has no single shape to plan: choose other layers.")
        if self._fake and value.layout is not torch.strided:
            raise NotImplementedError(f"the size of a {value.layout} tensor depends on its values")
        self._latest = PlannedLayer(tuple(value.shape), value.dtype, count_bytes(value), 1, "")
        return torch.empty(0, device="meta")

    def _note_run(self, entry: Entry) -> None:
        """Add a run of a layer, with the outline of its value."""
        run = replace(self._latest, module_type=type(entry.layer.module).__name__)
        self._runs.setdefault(entry.layer.name, []).append(run)


class _NoFalseFakes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that ends a pass on fake tensors at operators whose fake results would be wrong."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _UNFAKEABLE:
            raise NotImplementedError(f"{func} has no fake result")
        return func(*args, **(kwargs or {}))


def _enter_fake(
    undo: Undo, state: dict[str, torch.Tensor], arguments: Any, device: torch.device
) -> tuple[dict[str, torch.Tensor], Any]:
    """Let operators run on fake tensors until `undo` runs; return fake weights, and fake inputs on their device."""
    # A private module, since there is no public one; other libraries use it for the same purpose.
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    enter_dispatch_mode(undo, mode)
    fakes: dict[str, torch.Tensor] = {name: mode.from_tensor(value) for name, value in state.items()}
    arguments = tree_map_only(torch.Tensor, lambda value: mode.from_tensor(value).to(device), arguments)
    enter_dispatch_mode(undo, _NoFalseFakes())  # type: ignore[no-untyped-call]
    return fakes, arguments


def _describe_hint(inputs: tuple[Any, ...]) -> str:
    """Return the hint of what to pass to a model that raised an error, such as a tensor in place of a shape."""
    shapes = [one for one in inputs if isinstance(one, (tuple, list)) and all(isinstance(size, int) for size in one)]
    if not shapes:
        return "The model is called with the inputs as they are: pass the ones that its forward takes."
    return f"For a shape alone pass torch.empty({tuple(shapes[0])}, device='meta')."
