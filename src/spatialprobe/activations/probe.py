"""The context manager that hooks a model's layers and hands out the records."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Literal, get_args

import torch
from torch import nn

from spatialprobe.activations.hooks import attach
from spatialprobe.activations.post import unresolved
from spatialprobe.activations.recorder import OutputPicker, Recorder
from spatialprobe.activations.records import Activation, At
from spatialprobe.activations.select import Selector, all_layers, no_such_name, select
from spatialprobe.activations.table import probe_table
from spatialprobe.errors import (
    AmbiguousCallError,
    ArgumentError,
    LayerNotFoundError,
    LayerNotRunError,
    ProbeStateError,
    SpatialProbeError,
)

Missing = Literal["error", "warn", "ignore"]


class Probe(Mapping[str, Activation]):
    """Records what the chosen layers of a model hand on while a `with` block runs.

    A mapping from layer names to records, in the order in which the layers first ran. The model is not changed:
    forward hooks go on, all or none, when the block is entered, and exactly those come off when it is left,
    whatever happened in it. The records stay readable afterwards; entering again starts afresh.

    Args:
        model: any module; the records count its forwards.
        layers: a module type or tuple of types; a name, or a glob over whole names (`*` crosses dots); a compiled
            regex that must match the whole name; a module of the model; a predicate `(name, module) -> bool`; or
            a sequence of these, meaning all of them together.
        at: "output", the value that the layer hands on, or "post_activation", the value of the nonlinearity that
            follows it.
        missing: what to do, when the block ends well, about layers that did not run or that no single
            nonlinearity follows: "error", "warn" or "ignore".
        output: for layers that do not return one tensor, a function that picks one from what they return.

    Raises:
        LayerNotFoundError: a selector matches nothing.
        LayerNotRunError: when the block ends, a layer never ran.
        UnresolvedActivationError: when the block ends, no single nonlinearity followed a layer.
        UnsupportedOutputError: in the forward pass, a layer returned something other than one tensor.

    >>> import torch, spatialprobe as sp
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1))
    >>> with sp.Probe(model) as probe:
    ...     output = model(torch.zeros(4, 3, 32, 32))
    >>> probe["2"].shape
    (4, 12, 32, 32)
    >>> probe
    Probe of Sequential: 2 layers ran, 2 records, 288.0 KiB
      layer  type    runs  shape            dtype    size
      0      Conv2d     1  (4, 6, 32, 32)   float32  96.0 KiB
      2      Conv2d     1  (4, 12, 32, 32)  float32  192.0 KiB
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Selector = nn.Conv2d,
        *,
        at: At = "output",
        missing: Missing = "error",
        output: OutputPicker | None = None,
    ) -> None:
        _check(model, at, missing)
        self._model = model
        self._layers = select(model, layers)
        self._names = {name: layer.name for layer in self._layers for name in layer.names}
        self._at: At = at
        self._missing: Missing = missing
        self._output = output
        self._recorder = Recorder(at, output)
        self._hooks: ExitStack | None = None

    def __enter__(self) -> Probe:
        if self._hooks is not None:
            raise ProbeStateError("This probe is already active: leave its block first, or make a second Probe.")
        recorder = Recorder(self._at, self._output)
        hooked = [(layer.module, recorder.hook_for(layer)) for layer in self._layers]
        self._hooks = attach(hooked, self._model, recorder.forward_begins, recorder.forward_ends)
        self._recorder = recorder
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        hooks, self._hooks = self._hooks, None
        if hooks is not None:
            hooks.close()
        self._recorder.stop_following()
        if kind is None and self._missing != "ignore":
            self._complain()

    @property
    def records(self) -> tuple[Activation, ...]:
        """Every record, in the order of execution."""
        return tuple(self._recorder.records)

    def calls(self, layer: str) -> tuple[Activation, ...]:
        """All records of one layer, in the order of execution.

        Raises:
            LayerNotFoundError: the probe does not watch a layer of this name.
            LayerNotRunError: the layer has no record.
        """
        name = self._known(layer)
        found = tuple(record for record in self._recorder.records if record.layer == name)
        if not found:
            raise LayerNotRunError(f"Layer {name!r} has no record. {self._why_absent(name)}")
        return found

    def concatenated(self, layer: str) -> torch.Tensor:
        """All records of one layer as one tensor, joined along the batch (the first axis).

        Raises:
            ArgumentError: the shapes differ in more than the batch.
        """
        records = self.calls(layer)
        if len({(record.shape[1:], record.dtype, record.device) for record in records}) > 1:
            shapes = ", ".join(str(record.shape) for record in records)
            raise ArgumentError(
                f"The runs of {layer!r} cannot be joined along the batch: their shapes are {shapes}. "
                f"Use probe.calls({layer!r}) to have them one by one."
            )
        return torch.cat([record.tensor for record in records])

    def __getitem__(self, key: str | tuple[str, int]) -> Activation:
        layer, index = key if isinstance(key, tuple) else (key, None)
        records = self.calls(layer)
        if index is None:
            if len(records) > 1:
                raise AmbiguousCallError(
                    f"Layer {layer!r} ran {len(records)} times. Use probe[{layer!r}, i] for one run (i from 0 to "
                    f"{len(records) - 1}), probe.calls({layer!r}) for all, or probe.concatenated({layer!r}) for "
                    "one tensor along the batch."
                )
            return records[0]
        if not -len(records) <= index < len(records):
            raise LayerNotRunError(
                f"Layer {layer!r} ran {len(records)} times: there is no run {index}, only 0 to {len(records) - 1}."
            )
        return records[index]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(record.layer for record in self._recorder.records))

    def __len__(self) -> int:
        return len({record.layer for record in self._recorder.records})

    def __contains__(self, key: object) -> bool:
        try:
            self.calls(key) if isinstance(key, str) else self[key]  # type: ignore[index]
        except (KeyError, TypeError):
            return False
        return True

    def __repr__(self) -> str:
        return probe_table(type(self._model).__name__, self._recorder.records)

    def _known(self, layer: str) -> str:
        """The name under which a layer's records are kept."""
        if layer in self._names:
            return self._names[layer]
        watched = ", ".join(known.name for known in self._layers)
        if not isinstance(layer, str):
            raise LayerNotFoundError(f"A record is found by its layer's name, not by {layer!r}. Watched: {watched}.")
        layers = all_layers(self._model)
        if any(layer in other.names for other in layers):
            problem = f"Layer {layer!r} is in the model, but this probe does not watch it."
        else:
            problem = no_such_name(layer, layers)
        raise LayerNotFoundError(f"{problem} Watched: {watched}.")

    def _why_absent(self, name: str) -> str:
        if name in self._recorder.ran:
            return "It ran, but no single nonlinearity took its output."
        return "It did not run inside the block (yet)."

    def _complain(self) -> None:
        """Raise, or warn, about layers that did not run or that no nonlinearity follows."""
        silent = [layer.name for layer in self._layers if layer.name not in self._recorder.ran]
        problems: list[SpatialProbeError | None] = [
            LayerNotRunError(
                f"These layers never ran inside the block: {', '.join(map(repr, silent))}. Run the model inside it, "
                "choose fewer layers, or give missing='ignore' if they need not run."
            )
            if silent
            else None,
            unresolved(self._recorder.trails),
        ]
        for problem in filter(None, problems):
            if self._missing == "error":
                raise problem
            warnings.warn(str(problem), stacklevel=3)


def _check(model: object, at: str, missing: str) -> None:
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, not a {type(model).__name__}.")
    for name, value, allowed in (("at", at, get_args(At)), ("missing", missing, get_args(Missing))):
        if value not in allowed:
            raise ArgumentError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")
