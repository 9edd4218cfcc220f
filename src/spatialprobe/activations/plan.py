"""What a capture would keep, before it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from spatialprobe.activations.probe import Probe
from spatialprobe.activations.table import layers_table
from spatialprobe.errors import LayerNotFoundError, SpatialProbeError
from spatialprobe.model.evaluation import attributes_restored
from spatialprobe.model.forward import forward_error
from spatialprobe.model.select import Selector, model_name, unwrapped
from spatialprobe.text import byte_size, counted


@dataclass(frozen=True)
class PlannedLayer:
    """What one layer would hand on in one forward of the model.

    >>> import torch, spatialprobe as sp
    >>> sp.plan(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3)), torch.empty(8, 3, 32, 32, device="meta"))["0"]
    PlannedLayer(shape=(8, 6, 30, 30), dtype=torch.float32, nbytes=172800, calls=1, module_type='Conv2d')
    """

    shape: tuple[int, ...]  # of its first run
    dtype: torch.dtype
    nbytes: int  # of all its runs together
    calls: int  # how often it runs
    module_type: str


@dataclass(frozen=True, eq=False)
class Plan(Mapping[str, PlannedLayer]):
    """What each layer would hand on, by name, in the order in which the layers first run.

    >>> import torch, spatialprobe as sp
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 12, 3))
    >>> plan = sp.plan(model, torch.empty(8, 3, 32, 32, device="meta"))
    >>> list(plan), plan["1"].shape, plan.nbytes, plan.fallback
    (['0', '1'], (8, 12, 28, 28), 473856, None)
    """

    layers: Mapping[str, PlannedLayer]
    model: str
    fallback: str | None  # why the pass ran on the real device instead of on meta tensors; None if it did not

    @property
    def nbytes(self) -> int:
        """The bytes of all layers together."""
        return sum(layer.nbytes for layer in self.layers.values())

    def __getitem__(self, layer: str) -> PlannedLayer:
        if layer not in self.layers:
            raise LayerNotFoundError(f"No layer {layer!r} was planned. There are {', '.join(map(repr, self.layers))}.")
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows = [
            (
                name or "(model)",
                layer.module_type,
                str(layer.calls),
                str(layer.shape),
                str(layer.dtype).removeprefix("torch."),
                byte_size(layer.nbytes),
            )
            for name, layer in self.layers.items()
        ]
        heading = f"Plan for {self.model}: {counted(len(rows), 'layer')}, {byte_size(self.nbytes)} per forward"
        return layers_table(heading, rows)


def plan(model: nn.Module, *inputs: Any, kwargs: Mapping[str, Any] | None = None, layers: Selector = nn.Conv2d) -> Plan:
    """Shape, dtype, bytes and number of runs of each layer's output, without computing any value.

    The forward pass runs on meta tensors, which have shapes but no values; where a model reads values, it runs for
    real, without gradients, and `fallback` says why. Weights, buffers (batch-norm statistics too) and random state
    are left as they are. Layers that do not return one tensor are not for planning: choose others.

    Raises:
        ForwardError: the model raises an error on these inputs.
        LayerNotFoundError, LayerNotRunError, UnsupportedOutputError: as of a probe.

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
    probe = Probe(model, layers, device="meta")
    given = dict(kwargs or {})
    try:
        _rehearse(model, inputs, given, probe, meta=True)
    except Exception as error:  # whatever a model does that meta tensors do not allow
        fallback = f"{type(error).__name__}: {error}"
        probe = Probe(model, layers, device="meta")
        try:
            _rehearse(model, inputs, given, probe, meta=False)
        except SpatialProbeError:
            raise
        except Exception as cause:
            raise forward_error(model, (inputs, given), cause, _hint(inputs)) from cause
    planned = {}
    for name in probe:
        runs = probe.calls(name)
        total = sum(run.nbytes for run in runs)
        planned[name] = PlannedLayer(runs[0].shape, runs[0].dtype, total, len(runs), runs[0].module_type)
    return Plan(planned, model_name(model), fallback)


def _hint(inputs: tuple[Any, ...]) -> str:
    """What to give to a model that raised an error, such as a tensor in place of a shape."""
    shapes = [one for one in inputs if isinstance(one, (tuple, list)) and all(isinstance(size, int) for size in one)]
    if not shapes:
        return "The model is given the inputs as they are: give them as it takes them."
    return f"For a shape alone give torch.empty({tuple(shapes[0])}, device='meta')."


def _rehearse(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], probe: Probe, *, meta: bool) -> None:
    """One forward that leaves no trace: on meta tensors, or on the real device with buffers of its own."""
    bare = unwrapped(model)  # a wrapper may want devices of its own
    state: dict[str, torch.Tensor] = {name: value.detach() for name, value in bare.named_parameters()}
    state |= {name: value.detach().clone() for name, value in bare.named_buffers()}
    arguments = (inputs, kwargs)
    if meta:
        state, arguments = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (state, arguments))
    devices = {value.device for value in state.values() if value.device.type == "cuda"}
    with attributes_restored(model), torch.random.fork_rng(devices=list(devices)), torch.no_grad(), probe:
        torch.func.functional_call(bare, state, *arguments)
