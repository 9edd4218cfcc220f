"""Call every public function with wrong values, one argument at a time: `python tests/wrong_calls.py`, some minutes.

Each value is tried by itself, in a list, in a tuple, and as a mapping's value if the argument takes mappings. Each call
must return, or raise an error of the library with a short message; it must not raise anything else or hang, and the
model must be unchanged. `--only sweep` tries one function, `--accepted` prints the accepted calls, for review.
`test_wrong_calls.py` runs a part of it.
"""

from __future__ import annotations

import argparse
import inspect
import os
import random
import signal
import sys
import tempfile
import traceback
import warnings
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence, testing
from spatialprobe.fields import rules

LONGEST_MESSAGE = 2000  # characters
SECONDS = 20  # after which a call counts as hanging


class Unprintable:
    """An object whose repr raises."""

    def __repr__(self):
        raise RuntimeError("this object has no repr")


class Unhashable(str):
    """A string that is not hashable."""

    __hash__ = None


class Infinite:
    """A sequence with an enormous length."""

    def __len__(self):
        return 2**62

    def __getitem__(self, index):
        return self


WRONG: dict[str, Callable[[], object]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "-7": lambda: -7,
    "10**30": lambda: 10**30,
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "''": lambda: "",
    "'nothing'": lambda: "nothing",
    "a long text": lambda: "x" * 5000,
    "NUL": lambda: "a\0b",
    "lone surrogate": lambda: "\ud800",
    "bytes": lambda: b"bytes",
    "[]": list,
    "[1, 'a']": lambda: [1, "a"],
    "[[]]": lambda: [[]],
    "(-3, 99)": lambda: (-3, 99),
    "many ints": lambda: list(range(5000)),
    "{}": dict,
    "{'a': 1}": lambda: {"a": 1},
    "set()": set,
    "object()": object,
    "unprintable": Unprintable,
    "unhashable": lambda: Unhashable("conv1"),
    "infinite": Infinite,
    "lambda": lambda: lambda: None,
    "raising function": lambda: raising,
    "type": lambda: int,
    "scalar tensor": lambda: torch.tensor(1),
    "float tensor": lambda: torch.rand(2, 3),
    "empty tensor": lambda: torch.zeros(0),
    "boolean tensor": lambda: torch.tensor([True, False, True]),
    "complex tensor": lambda: torch.zeros(2, 3, 12, 12, dtype=torch.complex64),
    "meta tensor": lambda: torch.zeros(2, 3, 12, 12, device="meta"),
    "sparse tensor": lambda: torch.eye(3).to_sparse(),
    "nan images": lambda: torch.full((2, 3, 12, 12), float("nan")),
    "numpy int": lambda: np.int64(2),
    "numpy array": lambda: np.array([1, 2]),
    "object array": lambda: np.array([None, "a"], dtype=object),
    "module": nn.ReLU,
    "module type": lambda: nn.ReLU,
    "path": lambda: Path("/nonexistent/folder/file"),
    "dtype": lambda: torch.float32,
    "device": lambda: torch.device("meta"),
    "slice": lambda: slice(1),
    "generator": lambda: (one for one in (1, 2)),
    "record": lambda: sp.capture(model(), IMAGES, layers="conv1")["conv1"],
}
INSIDE: dict[str, Callable[[object], object]] = {  # containers in which a value is tried, besides by itself
    "[{}]": lambda value: [value],
    "({},)": lambda value: (value,),
    "{{'conv1': {}}}": lambda value: {"conv1": value},
}
MAPPINGS = {
    "edits",
    "images",
    "inputs",
    "kwargs",
    "layers",
    "record",
    "records",
    "reducers",
}  # may be mappings
IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 0, 1])


class Net(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        return self.head(torch.relu(self.conv2(x)).mean((2, 3)))


def raising(*args, **kwargs):
    """Raise, as a user's own function may."""
    raise ZeroDivisionError("the user's own function")


def model():
    """Return a small model, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


def swept():
    """Return the result of a small sweep."""
    return sp.sweep(model(), IMAGES, {"top": sp.Exemplars, "histogram": sp.Histogram}, progress=False)


def field(layer="conv1"):
    """Return the field of a layer."""
    return sp.receptive_fields(model(), (1, 3, 12, 12))[layer]


def records():
    """Return the records of both convolutions."""
    return sp.capture(model(), IMAGES)


def run_probe(**options):
    """Enter a probe, run the model and read the records."""
    net = options.pop("model")
    with sp.Probe(net, **options) as probe:
        if isinstance(net, Net):
            net(IMAGES)
    return [one.tensor for one in probe.records]


def run_monitor(model, reducers, **options):
    """Run a model in a monitor, and return what it saw."""
    with sp.Monitor(model, reducers, **options) as monitor:
        if isinstance(model, Net):
            model.training = True  # its batch norm is not, whose statistics would change
            try:
                model(IMAGES)
            finally:
                model.training = False
    return monitor.history


def run_explore(**options):
    """Explore a model where there is no browser."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("tempfile.tempdir", folder):
        with mock.patch("webbrowser.get", side_effect=webbrowser.Error):
            return sp.explore(**options)


def run_edited(**options):
    """Run a model in an edit."""
    with sp.edited(**options) as net:
        return net(IMAGES)


def permute(images):
    """Permute the pixels of images."""
    return evidence.PixelPermutation(12, 12)(images)


def edit(make):
    """Return a function that creates an edit and applies it."""
    return lambda **options: make(**options)(torch.rand(2, 4, 3, 3))


def reducing(kind):
    """Return a function that updates a reducer directly."""

    def run(activation, samples, **options):
        reducer = kind(**options)
        reducer.update(activation, samples)
        reducer.update(activation, samples)
        return reducer.result()

    return run


def merging(kind):
    """Return a function that merges a value into a reducer."""

    def run(other):
        reducer = kind()
        reducer.update(IMAGES, torch.arange(4))
        reducer.merge(other)
        return reducer.result()

    return run


@dataclass(frozen=True)
class Call:
    """A valid call: the callable, and its arguments by name; a list for `*args`."""

    function: Callable[..., object]
    arguments: dict[str, Any]
    spread: str = ""  # the name of the argument that is passed as `*args`
    optional: Callable[..., object] | None = None  # a callable whose signature has further arguments

    def names(self) -> list[str]:
        """Return the arguments to try."""
        found = dict.fromkeys(self.arguments)
        if self.optional is not None:
            kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            found |= {
                name: None
                for name, one in inspect.signature(self.optional).parameters.items()
                if one.kind not in kinds and name != "self"
            }
        return list(found)

    def run(self, **changes: object) -> object:
        """Run the call, with some arguments replaced."""
        arguments = {**self.arguments, **changes}
        positional = [arguments.pop(self.spread)] if self.spread else []
        if self.spread and isinstance(positional[0], list):
            positional = positional[0]
        first = [arguments.pop("model")] if positional and "model" in arguments else []
        return self.function(*first, *positional, **arguments)


def calls(folder: Path) -> dict[str, Call]:
    """Return a valid call for each public function, class and method that takes arguments."""
    result, one, found = swept(), records(), field()
    top = result["conv1"]["top"]
    histogram = sp.activation_histogram(one["conv1"])
    gallery = sp.feature_maps(one)
    mosaic, sheet = sp.feature_maps(one["conv1"]), sp.evolution(one)
    fields = sp.receptive_fields(model(), (1, 3, 12, 12))
    saved = sp.save_activations(folder / "saved.safetensors", one)
    kept = result.save(folder / "kept.safetensors")
    store = folder / "acts.zarr"
    if find_spec("zarr"):
        sp.sweep(model(), IMAGES, {"dead": sp.Dead}, store=store, progress=False)
    explained = sp.attribute(model(), IMAGES, 1)
    maximized = sp.maximize_activation(model(), "conv1", shape=(3, 12, 12), steps=2, progress=False)
    history = run_monitor(model(), [sp.Dead], images=IMAGES[:1])
    checked = sp.checkup(model(), IMAGES, rules=["never_run"], progress=False)
    compared = sp.compare(model(), model(), IMAGES, progress=False)
    kept_comparison = compared.save(folder / "compared.safetensors")
    erf = {"model": model(), "images": IMAGES, "layer": "conv2"}
    fed = {"activation": IMAGES, "samples": torch.arange(4)}
    return {
        "Probe": Call(run_probe, {"model": model(), "layers": "conv1"}, optional=sp.Probe),
        "capture": Call(sp.capture, {"model": model(), "inputs": [IMAGES]}, "inputs", sp.capture),
        "plan": Call(sp.plan, {"model": model(), "inputs": [IMAGES]}, "inputs", sp.plan),
        "edited": Call(run_edited, {"model": model(), "edits": {"conv1": sp.ablate([0])}}),
        "ablate": Call(edit(sp.ablate), {"channels": [1]}, optional=sp.ablate),
        "replace": Call(edit(sp.replace), {"tensor": torch.rand(2, 4, 3, 3)}),
        "save_activations": Call(sp.save_activations, {"path": folder / "new.safetensors", "records": one}),
        "load_activations": Call(sp.load_activations, {"path": saved}),
        "Activations.calls": Call(one.calls, {"layer": "conv1"}),
        "Activations.concatenated": Call(one.concatenated, {"layer": "conv1"}),
        "Activations.__getitem__": Call(lambda key: one[key], {"key": "conv1"}),
        "Activations.__contains__": Call(lambda key: key in one, {"key": "conv1"}),
        "Activation.plot": Call(one["conv1"].plot, {}, optional=one["conv1"].plot),
        "Plan.__getitem__": Call(sp.plan(model(), IMAGES).__getitem__, {"layer": "conv1"}),
        "receptive_fields": Call(
            sp.receptive_fields, {"model": model(), "inputs": (1, 3, 12, 12)}, optional=sp.receptive_fields
        ),
        "ReceptiveFields.__getitem__": Call(lambda key: fields[key], {"key": "conv1"}),
        "ReceptiveFields.__contains__": Call(lambda key: key in fields, {"key": "conv1"}),
        "ReceptiveFields.calls": Call(fields.calls, {"layer": "conv1"}),
        "ReceptiveField.box": Call(found.box, {"unit": [1, 1]}, "unit", found.box),
        "ReceptiveField.boxes": Call(found.boxes, {}, optional=found.boxes),
        "ReceptiveField.reached_by": Call(found.reached_by, {"pixel": [1, 1]}, "pixel", found.reached_by),
        "effective_receptive_field": Call(sp.effective_receptive_field, erf, optional=sp.effective_receptive_field),
        "attribute": Call(
            sp.attribute,
            {"model": model(), "images": IMAGES, "target": 1, "progress": False},
            optional=sp.attribute,
        ),
        "Attribution.plot": Call(explained["conv1"].plot, {"sample": 1}, optional=explained["conv1"].plot),
        "Attribution.top": Call(explained["conv1"].top, {"k": 2}),
        "Attributions.__getitem__": Call(lambda key: explained[key], {"key": "conv1"}),
        "Attributions.__contains__": Call(lambda key: key in explained, {"key": "conv1"}),
        "Attributions.calls": Call(explained.calls, {"layer": "conv1"}),
        "compare": Call(
            sp.compare,
            {"one": model(), "other": model(), "data": IMAGES, "progress": False},
            optional=sp.compare,
        ),
        "checkup": Call(sp.checkup, {"model": model(), "data": IMAGES, "progress": False}, optional=sp.checkup),
        "Comparison.__getitem__": Call(compared.__getitem__, {"layer": "conv1"}),
        "Comparison.most_changed": Call(compared.most_changed, {"k": 2}, optional=compared.most_changed),
        "Comparison.figure": Call(compared.figure, {}, optional=compared.figure),
        "Comparison.save": Call(compared.save, {"path": folder / "comparison.safetensors"}),
        "Comparison.load": Call(sp.Comparison.load, {"path": kept_comparison}),
        "Tokens": Call(sp.Tokens, {"height": 4, "width": 6}, optional=sp.Tokens),
        "sweep": Call(
            sp.sweep,
            {"model": model(), "data": IMAGES, "reducers": {"moments": sp.Moments}, "progress": False},
            optional=sp.sweep,
        ),
        "SweepResult.__getitem__": Call(result.__getitem__, {"layer": "conv1"}),
        "SweepResult.save": Call(result.save, {"path": folder / "result.safetensors"}),
        "SweepResult.load": Call(sp.SweepResult.load, {"path": kept}),
        **{
            name: Call(reducing(getattr(sp, name)), fed, optional=getattr(sp, name))
            for name in ("Moments", "Histogram", "Exemplars", "ChannelCovariance", "Dead")
        },
        **{
            f"{name}.merge": Call(merging(getattr(sp, name)), {"other": getattr(sp, name)()})
            for name in ("Moments", "Histogram", "Exemplars", "ChannelCovariance", "Dead")
        },
        "ExemplarsResult.of_layer": Call(top.of_layer, {"layer": "conv1"}),
        "Activation.maps": Call(one["conv1"].maps, {}, optional=one["conv1"].maps),
        "feature_maps": Call(sp.feature_maps, {"record": one["conv1"]}, optional=sp.feature_maps),
        "kernels": Call(sp.kernels, {"conv": model().conv1}, optional=sp.kernels),
        "receptive_field_overlay": Call(
            sp.receptive_field_overlay,
            {"image": IMAGES[0], "field": found, "unit": (1, 1)},
            optional=sp.receptive_field_overlay,
        ),
        "effective_field_map": Call(
            sp.effective_field_map,
            {"effective": sp.effective_receptive_field(model(), IMAGES[:1], "conv1")},
            optional=sp.effective_field_map,
        ),
        "exemplar_patches": Call(
            sp.exemplar_patches, {"exemplars": top, "dataset": IMAGES, "field": found}, optional=sp.exemplar_patches
        ),
        "evolution": Call(sp.evolution, {"records": one}, optional=sp.evolution),
        "activation_histogram": Call(
            sp.activation_histogram, {"record": one["conv1"]}, optional=sp.activation_histogram
        ),
        "Mosaic.save": Call(mosaic.save, {"path": folder / "mosaic.png"}),
        "Mosaic.figure": Call(mosaic.figure, {}, optional=mosaic.figure),
        "Mosaic.with_source": Call(mosaic.with_source, {"source": "a drawing"}),
        "Evolution.save": Call(sheet.save, {"path": folder / "sheet.gif"}, optional=sheet.save),
        "Evolution.figure": Call(sheet.figure, {}, optional=sheet.figure),
        "Evolution.to_gif": Call(sheet.to_gif, {}, optional=sheet.to_gif),
        "Evolution.with_source": Call(sheet.with_source, {"source": "a drawing"}),
        "ActivationHistogram.save": Call(histogram.save, {"path": folder / "histogram.png"}),
        "ActivationHistogram.figure": Call(histogram.figure, {}, optional=histogram.figure),
        "ActivationHistogram.with_source": Call(histogram.with_source, {"source": "a drawing"}),
        "Gallery.__getitem__": Call(lambda key: gallery[key], {"key": "conv1"}),
        "Gallery.figure": Call(sp.feature_maps(one).figure, {}, optional=sp.feature_maps(one).figure),
        "Gallery.save": Call(sp.feature_maps(one).save, {"folder": folder / "gallery"}),
        "explore": Call(
            run_explore,
            {"model": model(), "images": IMAGES[:2], "data": IMAGES, "path": folder / "seen.html", "progress": False},
            optional=sp.explore,
        ),
        "write_report": Call(
            sp.write_report,
            {"path": folder / "page.html", "model": model(), "images": IMAGES[:2], "sweep": result, "dataset": IMAGES},
            optional=sp.write_report,
        ),
        "evidence.equivariance_error": Call(
            evidence.equivariance_error, {"model": model(), "images": IMAGES, "layer": "conv1", "shift": (1, 1)}
        ),
        "evidence.footprint": Call(
            evidence.footprint,
            {"model": model(), "images": IMAGES, "layer": "conv1", "pixel": (5, 5)},
            optional=evidence.footprint,
        ),
        "evidence.orientation_tuning": Call(
            evidence.orientation_tuning,
            {"model": model(), "layer": "conv1", "angles": 4, "phases": 3, "frequencies": (0.1, 0.2)},
            optional=evidence.orientation_tuning,
        ),
        "evidence.linear_probe": Call(
            evidence.linear_probe,
            {
                "model": model(),
                "images": IMAGES,
                "labels": LABELS,
                "layer": "conv1",
                "test_images": IMAGES,
                "test_labels": LABELS,
            },
            optional=evidence.linear_probe,
        ),
        "evidence.patch_coherence": Call(
            evidence.patch_coherence,
            {"exemplars": top, "dataset": IMAGES, "field": found},
            optional=evidence.patch_coherence,
        ),
        "evidence.channel_deletion": Call(
            evidence.channel_deletion,
            {"model": model(), "images": IMAGES, "attribution": explained["conv1"]},
            optional=evidence.channel_deletion,
        ),
        "evidence.concept_alignment": Call(
            evidence.concept_alignment,
            {"model": model(), "data": [(image, (image[0] > 0).long()) for image in IMAGES], "layers": "conv1"},
            optional=evidence.concept_alignment,
        ),
        "evidence.frozen_copy": Call(evidence.frozen_copy, {"model": model()}, optional=evidence.frozen_copy),
        "evidence.kernel_surgery": Call(
            evidence.kernel_surgery, {"model": model(), "layer": "conv1"}, optional=evidence.kernel_surgery
        ),
        "evidence.PixelPermutation": Call(
            evidence.PixelPermutation, {"height": 12, "width": 12}, optional=evidence.PixelPermutation
        ),
        "evidence.PixelPermutation.__call__": Call(
            lambda images: evidence.PixelPermutation(12, 12)(images), {"images": IMAGES}
        ),
        "testing.check_reducer": Call(testing.check_reducer, {"factory": sp.Dead}, optional=testing.check_reducer),
        "testing.check_store": Call(testing.check_store, {"path": store}),
        "testing.check_rule": Call(testing.check_rule, {"module": nn.Conv2d(1, 1, 3), "input_shape": (1, 1, 5, 5)}),
        "maximize_activation": Call(
            sp.maximize_activation,
            {"model": model(), "layer": "conv1", "shape": (3, 12, 12), "steps": 2, "exemplars": top},
            optional=sp.maximize_activation,
        ),
        "MaximizedActivation.mosaic": Call(maximized.mosaic, {}, optional=maximized.mosaic),
        "Checkup.of": Call(checked.of, {"rule": "never_run"}),
        "Checkup.save": Call(checked.save, {"path": folder / "checkup.html"}),
        "Finding": Call(sp.Finding, {"rule": "mine", "severity": "note"}, optional=sp.Finding),
        "Monitor": Call(run_monitor, {"model": model(), "reducers": {"dead": sp.Dead}}, optional=sp.Monitor),
        "History.table": Call(history.table, {"statistic": "dead.dead"}),
        "History.figure": Call(history.figure, {"statistic": "dead.dead"}, optional=history.figure),
        "History.to_csv": Call(history.to_csv, {"path": folder / "history.csv"}),
        "History.to_gif": Call(
            history.to_gif, {"path": folder / "history.gif", "layer": "conv1"}, optional=history.to_gif
        ),
        "History.evolution": Call(history.evolution, {"layer": "conv1"}, optional=history.evolution),
        "find_nonfinite": Call(
            sp.find_nonfinite, {"model": model(), "inputs": [IMAGES]}, "inputs", optional=sp.find_nonfinite
        ),
        "rules.window": Call(rules.window, {"kernel": 3}, optional=rules.window),
        "rules.transposed_window": Call(
            rules.transposed_window, {"kernel": 3, "stride": 2, "padding": 1, "dilation": 1}
        ),
        "rules.adaptive": Call(rules.adaptive, {"inputs": 8, "outputs": 3}),
        "rules.affine": Call(rules.affine, {"start": 0, "step": 1}),
        "rules.register": Call(rules.register, {"operator": "aten::no_such_operator", "rule": raising}),
    }


# Results, and arguments of rules: users read these objects, and do not create them.
NOT_CALLED = frozenset(
    [
        "Activation",
        "ChannelCovarianceResult",
        "DeadResult",
        "ExemplarsResult",
        "HistogramResult",
        "History",
        "HistoryRow",
        "Maps",
        "MaximizedActivation",
        "MomentsResult",
        "NonFiniteOrigin",
        "ActivationHistogram",
        "Activations",
        "Attribution",
        "Attributions",
        "Box",
        "Checkup",
        "ChannelComparison",
        "Comparison",
        "ConvSpec",
        "EffectiveReceptiveField",
        "Evolution",
        "Gallery",
        "Mosaic",
        "Plan",
        "PlannedLayer",
        "ReceptiveField",
        "ReceptiveFields",
        "Reducer",
        "Report",
        "SweepResult",
        "evidence.ChannelDeletion",
        "evidence.ConceptAlignment",
        "evidence.ConceptAlignments",
        "evidence.EquivarianceError",
        "evidence.Footprint",
        "evidence.LinearProbe",
        "evidence.OrientationTuning",
        "evidence.PatchCoherence",
        "rules.Operation",
        "rules.Reach",
        "rules.Rule",
        "rules.Taps",
        "rules.constant",
        "rules.joined",
        "rules.rule_for",
        "rules.union",
    ]
)
PASSED_ON = (ZeroDivisionError,)  # raised by the user's own function
OWN = {
    "transform",
    "output",
    "pick",
    "forward",
    "target",
    "targets",
}  # the user's own functions, whose exceptions pass through
EDITS = {"lambda", "type"}  # values of an edit that are the user's own functions
INPUTS = {("capture", "inputs"), ("capture", "kwargs")}  # documented: exceptions of the model pass through
FILES_MISSING = {"load_activations", "Comparison.load", "SweepResult.load"}  # documented: FileNotFoundError
LAWS = {"testing.check_reducer", "testing.check_rule"}  # documented: AssertionError for a broken law


def public_names() -> Iterator[str]:
    """Yield the names of the public functions and classes, except errors."""
    for prefix, namespace in (("", sp), ("evidence.", evidence), ("testing.", testing), ("rules.", rules)):
        for name in namespace.__all__:
            value = getattr(namespace, name)
            if not (isinstance(value, type) and issubclass(value, Exception)):
                yield prefix + name


@dataclass(frozen=True)
class Outcome:
    """The outcome of a wrong call."""

    call: str
    argument: str
    value: str
    kind: str  # "refused", "accepted", "raw", "long", "hangs", "changed"
    words: str = ""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Run a block, and raise a TimeoutError in it if it takes longer."""

    def ring(number, frame):
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fingerprint(net: nn.Module) -> list[object]:
    """Return the state that a call must not change."""
    return [
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in net.modules()],
        [(name, value.sum().item(), value.requires_grad) for name, value in net.state_dict(keep_vars=True).items()],
    ]


def describe(error: BaseException) -> str:
    """Return an error as one line, with the place in the library that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [frame for frame in frames if "spatialprobe" in frame.filename][-1:] or frames[-1:]
    try:
        text = " ".join(str(error).split())[:160]
    except Exception:
        text = "(it cannot be shown)"
    return f"{type(error).__name__}: {text} ({Path(where[0].filename).name}:{where[0].lineno})"


def places(argument: str) -> Iterator[str]:
    """Yield the forms in which a wrong value is tried: by itself, and in containers."""
    yield "{}"
    yield from (place for place in INSIDE if not place.startswith("{{") or argument in MAPPINGS)


def outcome(name: str, call: Call, argument: str, label: str, place: str = "{}") -> Outcome:
    """Return the outcome of a call with one argument replaced."""
    net = call.arguments.get("model")
    before = fingerprint(net) if isinstance(net, nn.Module) else None
    kind, words = "accepted", ""
    try:
        with warnings.catch_warnings(), time_limit(SECONDS):
            warnings.simplefilter("ignore")
            value = WRONG[label]()
            if place in INSIDE:
                value = INSIDE[place](value)
                value = [value] if argument == call.spread else value  # otherwise its items would be the arguments
            call.run(**{argument: value})
    except TimeoutError as error:
        kind, words = "hangs", str(error)
    except sp.SpatialProbeError as error:
        words = str(error)
        kind = "refused" if len(words) <= LONGEST_MESSAGE else "long"
    except PASSED_ON:
        kind = "refused"
    except BaseException as error:
        documented = (
            argument in OWN
            or (argument == "edits" and label in EDITS)
            or (name, argument) in INPUTS
            or (isinstance(error, FileNotFoundError) and name in FILES_MISSING)
            or (isinstance(error, AssertionError) and name in LAWS)
        )
        kind = "refused" if documented else "raw"
        words = describe(error)
    if before is not None and fingerprint(net) != before:
        kind, words = "changed", f"the model is not as it was; {words}"
    return Outcome(name, argument, place.format(label), kind, words)


def outcomes(folder: Path, only: str = "", share: float = 1.0, seed: int = 0) -> Iterator[Outcome]:
    """Yield the outcomes of all wrong calls, or of a random share of them."""
    choose = random.Random(seed).random
    for name, call in calls(folder).items():
        if only and name != only:
            continue
        for argument in call.names():
            for place in places(argument):
                for label in WRONG:
                    if choose() < share:
                        yield outcome(name, call, argument, label, place)


def main() -> int:
    """Print what went wrong, and the number of calls with each outcome; return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="one function, such as sweep")
    parser.add_argument("--share", type=float, default=1.0, help="try a random share of the calls")
    parser.add_argument("--accepted", action="store_true", help="also print the calls that were accepted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # some calls write files under the wrong names
        for one in outcomes(Path(folder), options.only, options.share):
            counts[one.kind] += 1
            if one.kind not in ("refused", "accepted") or (options.accepted and one.kind == "accepted"):
                print(f"{one.kind}: {one.call}({one.argument}={one.value}): {one.words[:200]}", flush=True)  # noqa: T201
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()), f"of {counts.total()} calls")  # noqa: T201
    return int(bool(counts.keys() - {"refused", "accepted"}))


if __name__ == "__main__":
    sys.exit(main())
