"""What the pass over the data watches: which layers, at which point, and the reducers of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from spatialprobe.activations.records import At
from spatialprobe.diagnosis.subject import Subject
from spatialprobe.diagnosis.survey import Survey
from spatialprobe.model.select import Layer
from spatialprobe.statistics.bounds import Bounds
from spatialprobe.statistics.covariance import ChannelCovariance
from spatialprobe.statistics.distributed import Peers
from spatialprobe.statistics.feed import Feeder
from spatialprobe.statistics.layouts import Layouts
from spatialprobe.statistics.moments import Moments
from spatialprobe.statistics.reducer import Reducer
from spatialprobe.statistics.state import StateFormat, SweepState

_UNITS = 32  # of each map, from which the covariance of channels is taken: neighbors tell little that is new

# The bounds of nonlinearities: of a ReLU6 the upper one alone, since zeros of a ReLU are no sign of saturation.
_BOUNDS: Mapping[str, tuple[float | None, float | None]] = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "relu6": (None, 6.0),
}
_BOUNDED_MODULES: Mapping[type[nn.Module], str] = {
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.ReLU6: "relu6",
}


@dataclass(eq=False)
class Watch:
    """Layers at one point, with the reducers of their values."""

    layers: Sequence[Layer]
    at: At
    make: Callable[[Layer], dict[str, Reducer]]

    def __post_init__(self) -> None:
        self.state = SweepState({layer.name: self.make(layer) for layer in self.layers})

    def feeder(self, subject: Subject) -> Feeder:
        """Return what feeds the reducers; layers that prove unusable are left out."""
        return Feeder(
            subject.called,
            self.layers,
            self.state.reducers,
            at=self.at,
            nonfinite="count",
            device=subject.where,
            stop_early=False,
            layouts=Layouts(
                subject.called,
                self.state.reducers,
                subject.layout,
                exact=frozenset(),
                left_out=self.state.left_out,
                stored=False,
            ),
            exact=frozenset(),
            left_out=self.state.left_out,
            needed=False,
        )

    def merge(self, others: Peers) -> None:
        """Merge the state with those of the other processes."""
        kinds = self.make(self.layers[0])
        form = StateFormat(self.state.reducers, kinds, self.make(self.layers[0])) if others.size > 1 else None
        self.state = others.merge_all(self.state, SweepState.merge, form)


def plan_watches(
    subject: Subject, chosen: Sequence[Layer], seen: Survey, nonlinearities: Mapping[str, str]
) -> list[Watch]:
    """Return what to watch: layers, after their nonlinearities if they have one; norms; nonlinearities with bounds."""
    ran = set(seen.ran)
    active = [layer for layer in chosen if layer.name in ran]
    after = [layer for layer in active if layer.name in nonlinearities]
    plain = [layer for layer in active if layer.name not in nonlinearities]
    running = [layer for layer in subject.known if layer.name in ran]
    norms = [layer for layer in running if is_tracked_norm(layer.module)]
    bounded = {layer.name: _bounds_of(layer.module) for layer in running}
    gates = [layer for layer in running if bounded[layer.name] is not None]
    known = {name for name in (_BOUNDED_MODULES.get(type(layer.module)) for layer in gates) if name}
    functional = [layer for layer in after if nonlinearities[layer.name] in _BOUNDS.keys() - known]
    watches = [
        Watch(after, "post_activation", _measure_channels),
        Watch(plain, "output", _measure_channels),
        Watch([layer for layer in norms if layer not in plain], "output", lambda layer: {"norm": Moments()}),
        Watch(gates, "output", lambda layer: {"bounds": Bounds(*(bounded[layer.name] or (None, None)))}),
        Watch(
            functional,
            "post_activation",
            lambda layer: {"bounds": Bounds(*_BOUNDS[nonlinearities[layer.name]])},
        ),
    ]
    return [watch for watch in watches if watch.layers]


def _measure_channels(layer: Layer) -> dict[str, Reducer]:
    return {"moments": Moments(), "covariance": ChannelCovariance(_UNITS)}


def is_tracked_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch norm that normalizes by statistics from training."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _bounds_of(module: nn.Module) -> tuple[float | None, float | None] | None:
    """Return the bounds of a nonlinearity, None for any other module."""
    name = _BOUNDED_MODULES.get(type(module))
    if name is not None:
        return _BOUNDS[name]
    if isinstance(module, nn.Hardtanh):
        return (module.min_val or None, module.max_val)
    return None
