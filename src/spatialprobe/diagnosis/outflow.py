"""What the outputs of layers become before they meet those of other layers, or are taken by the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from spatialprobe.activations.descent import LAYERS, OWN, Descent, collect_tensors
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.diagnosis.survey import spread_of
from spatialprobe.model.forward import run_model
from spatialprobe.model.hooks import ProbeHook, attach
from spatialprobe.model.modes import enter_function_mode
from spatialprobe.model.select import Layer
from spatialprobe.model.undo import undo_block


@dataclass(frozen=True)
class Outflow:
    """One value that came from the output of one layer alone: where it ended, and how much it spreads there.

    On the way to it there may be normalization, nonlinearities, pooling or a factor, but no other layer with weights.
    """

    joined: bool  # it met the output of another layer, as in a sum or concatenation; else the next layer took it
    spread: float  # the standard deviation around the mean of each channel, over all channels


Outflows = Mapping[str, Sequence[Outflow]]  # of each layer; a layer whose output is the model's has none


class _Following(TorchFunctionMode):
    """Notes where what comes from one layer alone ends; every torch function runs unchanged."""

    def __init__(self) -> None:
        self.found: dict[str, list[Outflow]] = defaultdict(list)
        self._descent: Descent[object] = Descent(frozenset())  # of names of layers, and objects that stand for others

    def begin(self, source: object, tensors: Sequence[torch.Tensor]) -> None:
        """Take some tensors as those of a layer, or of another source, whatever they were computed from."""
        self._descent.propagate(_nothing, "", [{source: OWN}], list(tensors))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and pass on to its results where its arguments came from."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        tensors = collect_tensors((*args, kwargs) if kwargs else args)
        origins = self._descent.origins_of_arguments(name, tensors)
        joined = len(set().union(*origins)) > 1
        if joined or name in LAYERS:
            for tensor in tensors:
                self._note(name, tensor, joined=joined)
        result = func(*args, **kwargs)
        changed = tensors[:1] if result is None else collect_tensors((result,))
        if name in LAYERS:
            self.begin(object(), changed)
        else:
            self._descent.propagate(func, name, origins, changed)
        return result

    def _note(self, name: str, tensor: torch.Tensor, *, joined: bool) -> None:
        """Note the end of a value if it came from one layer alone."""
        sources = [source for origins in self._descent.origins_of_arguments(name, [tensor]) for source in origins]
        if len(sources) == 1 and isinstance(sources[0], str) and tensor.is_floating_point() and tensor.numel():
            self.found[sources[0]].append(Outflow(joined, spread_of(tensor.detach())))


def follow_outputs(subject: Subject, layers: Sequence[Layer]) -> Outflows:
    """Return what the outputs of layers become in a pass on the first samples.

    Raises:
        ForwardError: the model raised an error.
    """
    following = _Following()

    def begins(module: nn.Module, args: Any, kwargs: Any) -> None:
        following.begin(object(), collect_tensors((args, kwargs)))

    def ends(layer: Layer, module: nn.Module, args: Any, output: Any) -> None:
        following.begin(layer.name, collect_tensors((output,)))

    hooks = [(layer.module, ProbeHook(ends, layer)) for layer in layers]
    with subject.running(), subject.describing(subject.samples), undo_block() as undo:
        attach(undo, hooks, subject.called, ProbeHook(begins), ProbeHook(_nothing))
        enter_function_mode(undo, following)
        run_model(subject.called, subject.samples.inputs, device=subject.where)
    return dict(following.found)


def _nothing(*_: Any) -> None:
    """Do nothing."""
