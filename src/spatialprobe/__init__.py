"""See what convolutional networks see.

Probe, capture              what each layer outputs for a batch
receptive_fields            which input pixels each unit can see
sweep                       statistics and top-activating samples of every channel over a data set
explore, write_report       one interactive page of all this
attribute                   which channels and places an answer rests on
edited, ablate, replace     what happens without a channel, or with another activation
checkup                     what is wrong with a model
compare                     what differs between two models
maximize_activation         what input a channel looks for
Monitor, find_nonfinite     what happens while a model trains

`help(sp.Probe)` and so on describe each. `sp.examples` has a network, a photo and drawn patterns to try them on.

>>> import torch, spatialprobe as sp
>>> from torch import nn
>>> model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3), nn.ReLU())
>>> with sp.Probe(model) as probe:
...     output = model(torch.rand(1, 3, 32, 32))
>>> list(probe)
['0', '2']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from spatialprobe.errors import (
    AmbiguousCallError,
    ArgumentError,
    ForwardError,
    LayerNotFoundError,
    LayerNotRunError,
    MemoryBudgetError,
    MutatedActivationError,
    NonFiniteActivationError,
    ProbeStateError,
    SpatialProbeError,
    StorageError,
    SweepError,
    UnresolvedActivationError,
    UnsupportedOutputError,
)

if TYPE_CHECKING:
    from spatialprobe import diagnosis as diagnosis
    from spatialprobe import evidence as evidence
    from spatialprobe import examples as examples
    from spatialprobe.activations.capture import capture
    from spatialprobe.activations.collection import Activations
    from spatialprobe.activations.edit import ablate, edited, replace
    from spatialprobe.activations.maps import Maps
    from spatialprobe.activations.plan import Plan, PlannedLayer, plan
    from spatialprobe.activations.probe import Probe
    from spatialprobe.activations.records import Activation, ConvSpec
    from spatialprobe.activations.save import load_activations, save_activations
    from spatialprobe.attribution.attribute import attribute
    from spatialprobe.attribution.collection import Attributions
    from spatialprobe.attribution.result import Attribution
    from spatialprobe.comparison.compare import compare
    from spatialprobe.comparison.result import ChannelComparison, Comparison
    from spatialprobe.diagnosis.checkup import checkup
    from spatialprobe.diagnosis.finding import Finding
    from spatialprobe.diagnosis.result import Checkup
    from spatialprobe.fields.box import Box
    from spatialprobe.fields.collection import ReceptiveFields
    from spatialprobe.fields.effective import EffectiveReceptiveField, effective_receptive_field
    from spatialprobe.fields.receptive_fields import receptive_fields
    from spatialprobe.fields.result import ReceptiveField
    from spatialprobe.model.tokens import Tokens
    from spatialprobe.render.effective_map import effective_field_map
    from spatialprobe.render.evolution import Evolution, evolution
    from spatialprobe.render.exemplar_patches import exemplar_patches
    from spatialprobe.render.feature_maps import feature_maps
    from spatialprobe.render.gallery import Gallery
    from spatialprobe.render.histogram import ActivationHistogram, activation_histogram
    from spatialprobe.render.kernels import kernels
    from spatialprobe.render.mosaic import Mosaic
    from spatialprobe.render.overlay import receptive_field_overlay
    from spatialprobe.report.explore import explore
    from spatialprobe.report.result import Report
    from spatialprobe.report.write import write_report
    from spatialprobe.statistics.covariance import ChannelCovariance, ChannelCovarianceResult
    from spatialprobe.statistics.dead import Dead, DeadResult
    from spatialprobe.statistics.exemplars import Exemplars, ExemplarsResult
    from spatialprobe.statistics.histogram import Histogram, HistogramResult
    from spatialprobe.statistics.moments import Moments, MomentsResult
    from spatialprobe.statistics.reducer import Reducer
    from spatialprobe.statistics.result import SweepResult
    from spatialprobe.statistics.sweep import sweep
    from spatialprobe.synthesis.maximize_activation import maximize_activation
    from spatialprobe.synthesis.result import MaximizedActivation
    from spatialprobe.training.find_nonfinite import find_nonfinite
    from spatialprobe.training.history import History, HistoryRow
    from spatialprobe.training.monitor import Monitor
    from spatialprobe.training.nonfinite import NonFiniteOrigin

__version__ = "0.2.0"

__all__ = [
    "Activation",
    "ActivationHistogram",
    "Activations",
    "AmbiguousCallError",
    "ArgumentError",
    "Attribution",
    "Attributions",
    "Box",
    "ChannelComparison",
    "ChannelCovariance",
    "ChannelCovarianceResult",
    "Checkup",
    "Comparison",
    "ConvSpec",
    "Dead",
    "DeadResult",
    "EffectiveReceptiveField",
    "Evolution",
    "Exemplars",
    "ExemplarsResult",
    "Finding",
    "ForwardError",
    "Gallery",
    "Histogram",
    "HistogramResult",
    "History",
    "HistoryRow",
    "LayerNotFoundError",
    "LayerNotRunError",
    "Maps",
    "MaximizedActivation",
    "MemoryBudgetError",
    "Moments",
    "MomentsResult",
    "Monitor",
    "Mosaic",
    "MutatedActivationError",
    "NonFiniteActivationError",
    "NonFiniteOrigin",
    "Plan",
    "PlannedLayer",
    "Probe",
    "ProbeStateError",
    "ReceptiveField",
    "ReceptiveFields",
    "Reducer",
    "Report",
    "SpatialProbeError",
    "StorageError",
    "SweepError",
    "SweepResult",
    "Tokens",
    "UnresolvedActivationError",
    "UnsupportedOutputError",
    "ablate",
    "activation_histogram",
    "attribute",
    "capture",
    "checkup",
    "compare",
    "edited",
    "effective_field_map",
    "effective_receptive_field",
    "evolution",
    "exemplar_patches",
    "explore",
    "feature_maps",
    "find_nonfinite",
    "kernels",
    "load_activations",
    "maximize_activation",
    "plan",
    "receptive_field_overlay",
    "receptive_fields",
    "replace",
    "save_activations",
    "sweep",
    "write_report",
]

# Imported on first use, so that importing the library is fast: matplotlib waits for a picture, torch for a model.
_ON_FIRST_USE = {
    "activations.capture": ("capture",),
    "activations.collection": ("Activations",),
    "activations.edit": ("ablate", "edited", "replace"),
    "activations.maps": ("Maps",),
    "activations.plan": ("Plan", "PlannedLayer", "plan"),
    "activations.probe": ("Probe",),
    "activations.records": ("Activation", "ConvSpec"),
    "activations.save": ("load_activations", "save_activations"),
    "attribution.attribute": ("attribute",),
    "attribution.collection": ("Attributions",),
    "attribution.result": ("Attribution",),
    "comparison.compare": ("compare",),
    "comparison.result": ("ChannelComparison", "Comparison"),
    "diagnosis.checkup": ("checkup",),
    "diagnosis.finding": ("Finding",),
    "diagnosis.result": ("Checkup",),
    "fields.box": ("Box",),
    "fields.collection": ("ReceptiveFields",),
    "fields.effective": ("EffectiveReceptiveField", "effective_receptive_field"),
    "fields.result": ("ReceptiveField",),
    "fields.receptive_fields": ("receptive_fields",),
    "model.tokens": ("Tokens",),
    "render.evolution": ("Evolution", "evolution"),
    "render.feature_maps": ("feature_maps",),
    "render.gallery": ("Gallery",),
    "render.histogram": ("ActivationHistogram", "activation_histogram"),
    "render.kernels": ("kernels",),
    "render.mosaic": ("Mosaic",),
    "render.effective_map": ("effective_field_map",),
    "render.overlay": ("receptive_field_overlay",),
    "render.exemplar_patches": ("exemplar_patches",),
    "report.explore": ("explore",),
    "report.result": ("Report",),
    "report.write": ("write_report",),
    "statistics.covariance": ("ChannelCovariance", "ChannelCovarianceResult"),
    "statistics.dead": ("Dead", "DeadResult"),
    "statistics.exemplars": ("Exemplars", "ExemplarsResult"),
    "statistics.histogram": ("Histogram", "HistogramResult"),
    "statistics.moments": ("Moments", "MomentsResult"),
    "statistics.reducer": ("Reducer",),
    "statistics.result": ("SweepResult",),
    "statistics.sweep": ("sweep",),
    "synthesis.maximize_activation": ("maximize_activation",),
    "synthesis.result": ("MaximizedActivation",),
    "training.find_nonfinite": ("find_nonfinite",),
    "training.history": ("History", "HistoryRow"),
    "training.monitor": ("Monitor",),
    "training.nonfinite": ("NonFiniteOrigin",),
}
_HOME = {name: f"{__name__}.{module}" for module, names in _ON_FIRST_USE.items() for name in names}
_PACKAGES_ON_FIRST_USE = ("diagnosis", "evidence", "examples", "testing")


def __getattr__(name: str) -> object:
    if name in _PACKAGES_ON_FIRST_USE:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES_ON_FIRST_USE, "__version__"])
