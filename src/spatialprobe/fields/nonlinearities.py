"""What the values after the layers' nonlinearities see, in a pass that is being followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from spatialprobe.activations.recorder import Recorder, Recording
from spatialprobe.fields.reach import Reach
from spatialprobe.model.hooks import Hooks, ProbeHook
from spatialprobe.model.select import Layer
from spatialprobe.model.undo import Undo

Sees = Callable[[torch.Tensor], Reach]


class Nonlinearities:
    """Follows the outputs of layers to their nonlinearities, as a probe at "post_activation" does.

    The runs of a layer are a list of what each sees, or why there is no field of it.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], sees: Sees) -> None:
        self._model = model
        self._sees = sees
        self._recorder = Recorder(model, list(layers), {}, Recording(at="post_activation", take=self._take))
        hooks = self._recorder.hooks(list(layers))
        self._hooks = {layer.name: hook for layer, (_, hook) in zip(layers, hooks, strict=True)}
        self._runs: dict[str, list[Reach | str]] = {}
        self._followed: dict[str, list[int]] = {}  # the runs of each layer that the recorder counts

    def watch(self, undo: Undo) -> None:
        """Watch the forwards of the model, until `undo` runs."""
        self._recorder.begin()
        undo.add(self._recorder.stop_following)
        hooks = Hooks(undo)
        hooks.add_before(self._model, ProbeHook(self._recorder.forward_begins), prepend=True, with_kwargs=True)
        hooks.add(self._model, ProbeHook(self._recorder.forward_ends), always_call=True)

    def follow(self, layer: Layer, runs: list[Reach | str], output: torch.Tensor) -> None:
        """Add a run of a layer to its `runs`: what the value after its nonlinearity sees, once that has come."""
        self._runs[layer.name] = runs
        self._followed.setdefault(layer.name, []).append(len(runs))
        runs.append("no nonlinearity took its output.")
        self._hooks[layer.name](layer.module, (), output)

    def settle(self) -> None:
        """Say of each run that no single nonlinearity followed why not, once the pass is over."""
        counts: dict[str, int] = {}
        for trail in self._recorder.trails:
            run = counts.get(trail.layer, 0)
            counts[trail.layer] = run + 1
            problem = trail.problem()
            if problem is not None:
                place = self._followed[trail.layer][run]
                self._runs[trail.layer][place] = f"no single nonlinearity follows {problem}."

    def _take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        self._runs[layer.name][self._followed[layer.name][call]] = self._sees(value)
