"""What the outputs of the layers' nonlinearities see, in a pass that is being followed."""

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
    """A follower of the outputs of layers to their nonlinearities, like a probe at "post_activation".

    The runs of a layer are a list of what each sees, or of the reason why it has no field.
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
        """Add a run of a layer to its `runs`: what the output of its nonlinearity sees, once it is computed."""
        self._runs[layer.name] = runs
        self._followed.setdefault(layer.name, []).append(len(runs))
        runs.append("no nonlinearity took its output.")
        self._hooks[layer.name](layer.module, (), output)

    def settle(self) -> None:
        """Note why each run without a single following nonlinearity has none, once the pass is over."""
        counts: dict[str, int] = {}
        for trail in self._recorder.trails:
            run = counts.get(trail.layer, 0)
            counts[trail.layer] = run + 1
            problem = trail.describe_problem()
            if problem is not None:
                place = self._followed[trail.layer][run]
                self._runs[trail.layer][place] = f"no single nonlinearity follows {problem}."

    def _take(self, layer: Layer, call: int, value: torch.Tensor) -> None:
        """Set what the output of a nonlinearity sees (called by the recorder)."""
        self._runs[layer.name][self._followed[layer.name][call]] = self._sees(value)
