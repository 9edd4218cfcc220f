"""Results do not depend on global settings of torch, such as the default device, the default dtype, and modes."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import pytest
import torch
from sweeps import together
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import spatialprobe as sp
from spatialprobe import evidence
from spatialprobe.statistics.loading import locate_samples
from spatialprobe.testing import check_reducer, check_rule

pytestmark = pytest.mark.no_cover


def convolutions():
    """Return a small model whose weights are on the CPU, whatever the default device is."""
    with torch.device("cpu"), torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()


MODEL = convolutions()
IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 2
REDUCERS = {
    "moments": sp.Moments,
    "histogram": sp.Histogram,
    "bounded": partial(sp.Histogram, low=-1, high=1),
    "top": sp.Exemplars,
    "covariance": sp.ChannelCovariance,
    "dead": sp.Dead,
}


def recorded(folder, **options):
    """Return the records of some forward passes of the model."""
    with sp.Probe(MODEL, **options) as probe:
        for _ in range(3):
            MODEL(IMAGES)
    return [record.tensor.detach() for record in probe.records]


def gradients(folder):
    with sp.Probe(MODEL, gradients=True) as probe:
        MODEL(IMAGES).sum().backward()
    return [record.gradient for record in probe.records]


def edited(folder, edit):
    with sp.edited(MODEL, {"0": edit}), torch.no_grad():
        return MODEL(IMAGES)


def saved(folder):
    path = sp.save_activations(folder / "records.safetensors", sp.capture(MODEL, IMAGES))
    return [record.tensor for record in sp.load_activations(path).records]


def swept(folder, data=IMAGES, **options):
    """Return all results of a sweep."""
    found = sp.sweep(MODEL, data, REDUCERS, batch_size=3, progress=False, **options)
    path = found.save(folder / "sweep.safetensors")
    results = [*found.layers.values(), *sp.SweepResult.load(path).layers.values()]
    return [value for layer in results for result in layer.values() for value in vars(result).values()]


def continued(folder):
    """Return the results of a sweep whose checkpoint is already finished."""
    swept(folder, checkpoint=folder / "state")
    return swept(folder, checkpoint=folder / "state")


def stored(folder):
    zarr = pytest.importorskip("zarr")
    swept(folder, store=folder / "activations.zarr")
    return zarr.open(folder / "activations.zarr")["0"]["activation"][:]


def field():
    return sp.receptive_fields(MODEL, (1, 3, 16, 16))["3"]


def page(folder):
    found = sp.sweep(MODEL, IMAGES, REDUCERS, progress=False)
    report = sp.write_report(folder / "page.html", MODEL, IMAGES[:2], sweep=found, dataset=IMAGES)
    assert report.doubts == ()
    return report.path.read_text()


def top(folder):
    return sp.sweep(MODEL, IMAGES, {"top": sp.Exemplars}, progress=False)["3"]["top"]


class Stream(IterableDataset):
    """An iterable data set that yields the images one by one."""

    def __iter__(self):
        return iter(IMAGES)


class Reads(nn.Module):
    """A model that reads values, so that fields are computed on its real device rather than on meta tensors."""

    def __init__(self):
        super().__init__()
        self.model = MODEL

    def forward(self, x):
        return self.model(x) if x.sum().item() == x.sum().item() else x


USES = {
    "probe": recorded,
    "probe after": partial(recorded, layers="0", at="post_activation"),
    "probe dtype": partial(recorded, dtype=torch.float64, device="cpu"),
    "probe graph": partial(recorded, keep_graph=True),
    "probe transform": partial(recorded, transform=lambda maps: maps.mean((2, 3)), max_bytes=10**6),
    "gradients": gradients,
    "capture": lambda folder: sp.capture(MODEL, IMAGES, stop_early=True)["3"].numpy(),
    "record": lambda folder: sp.capture(MODEL, IMAGES)["0"]._repr_html_(),
    "plan": lambda folder: repr(sp.plan(MODEL, IMAGES)),
    "plan for real": lambda folder: repr(sp.plan(Reads(), IMAGES)),
    "ablate": partial(edited, edit=sp.ablate([0, 2], value=[1.0, 2.0])),
    "ablate by a number": partial(edited, edit=sp.ablate(1)),
    "replace": partial(edited, edit=sp.replace(torch.ones(8, 4, 14, 14))),
    "files": saved,
    "fields": lambda folder: field().boxes(),
    "fields of an example": lambda folder: sp.receptive_fields(MODEL, IMAGES)["3"].boxes(),
    "fields for real": lambda folder: sp.receptive_fields(Reads(), IMAGES)["model.3"].boxes(),
    "fields for real of a shape": lambda folder: sp.receptive_fields(Reads(), (1, 3, 16, 16))["model.3"].boxes(),
    "effective": lambda folder: sp.effective_receptive_field(MODEL, IMAGES, "3").map,
    "effective, probed": lambda folder: (
        sp.effective_receptive_field(MODEL, IMAGES, "3", statistic="squared", probes=3).map
    ),
    "sweep": swept,
    "sweep of a data set": lambda folder: swept(folder, TensorDataset(IMAGES)),
    "sweep by workers": lambda folder: swept(folder, TensorDataset(IMAGES), num_workers=1),
    "sweep of batches": lambda folder: swept(folder, [IMAGES[:3], IMAGES[3:]]),
    "sweep of a stream": lambda folder: swept(folder, Stream()),
    "positions of a loader": lambda folder: locate_samples(DataLoader(TensorDataset(IMAGES))).collate_fn(
        [(3, IMAGES[3])]
    )[0],
    "sweep with NaN": lambda folder: swept(folder, torch.where(IMAGES < 0.1, torch.nan, IMAGES), nonfinite="count"),
    "checkpoint": continued,
    "store": stored,
    "maps": lambda folder: sp.feature_maps(sp.capture(MODEL, IMAGES))["0"].array,
    "kernels": lambda folder: sp.kernels(MODEL[0]).array,
    "overlay": lambda folder: sp.receptive_field_overlay(IMAGES[0], field(), (3, 4)).array,
    "patches": lambda folder: sp.exemplar_patches(top(folder), IMAGES, field()).array,
    "evolution": lambda folder: sp.evolution(sp.capture(MODEL, IMAGES)).array,
    "histogram": lambda folder: sp.activation_histogram(sp.capture(MODEL, IMAGES)["0"]).array,
    "page": page,
    "footprint": lambda folder: evidence.footprint(MODEL, IMAGES, "3", pixel=(8, 8)).changed,
    "equivariance": lambda folder: evidence.equivariance_error(MODEL, IMAGES, "3", shift=(1, 2)).values,
    "orientation": lambda folder: evidence.orientation_tuning(MODEL, "0", angles=6, phases=3).response,
    "permutation": lambda folder: evidence.PixelPermutation(16, 16).inverse(evidence.PixelPermutation(16, 16)(IMAGES)),
    "surgery": lambda folder: evidence.kernel_surgery(MODEL, "3", "shuffle")[3].weight,
    "frozen": lambda folder: evidence.frozen_copy(MODEL)[3].weight,
    "coherence": lambda folder: evidence.patch_coherence(top(folder), IMAGES, field()).random_values,
    "linear probe": lambda folder: (
        evidence.linear_probe(MODEL, IMAGES, LABELS, "3", test_images=IMAGES, test_labels=LABELS).values
    ),
    "check_reducer": lambda folder: [check_reducer(reducer) for reducer in REDUCERS.values()],
    "check_rule": lambda folder: check_rule(nn.AvgPool2d(2), (1, 1, 6, 6)),
}


@contextmanager
def setting(setter, value, usual):
    """Change a global setting, as scripts do, until the block ends."""
    setter(value)
    try:
        yield
    finally:
        setter(usual)


SETTINGS = {
    "default device": partial(setting, torch.set_default_device, "meta", None),
    "device context": partial(torch.device, "meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "float64": partial(setting, torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": partial(setting, torch.set_default_dtype, torch.bfloat16, torch.float32),
    "deterministic": partial(setting, torch.use_deterministic_algorithms, True, False),
}
NEED_GRADIENTS = {"gradients", "probe graph"}


def assert_alike(found, expected):
    """Check that two outcomes hold the same values, and that none of them is on the default device."""
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, torch.Tensor):
        assert found.device == expected.device
        assert torch.equal(found, expected) or torch.allclose(found, expected, equal_nan=True)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Return a function that returns the result of a use under the usual settings; each is computed once."""
    return cache(lambda use: USES[use](tmp_path_factory.mktemp("usual")))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("use", USES)
def test_settings_change_nothing(use, name, usual, tmp_path):
    """The whole public API has the same results with the meta device as the default device, and in every mode."""
    if use in NEED_GRADIENTS and name in ("inference mode", "no gradients"):
        with SETTINGS[name](), pytest.raises(sp.ProbeStateError, match="ran without gradients"):
            USES[use](tmp_path)
        return
    expected = usual(use)
    with SETTINGS[name]():
        found = USES[use](tmp_path)
    assert_alike(found, expected)


@pytest.mark.parametrize("use", sorted(use for use in USES.keys() - NEED_GRADIENTS if not use.startswith("probe")))
def test_images_made_for_inference(use, usual, tmp_path, monkeypatch):
    """Images that were created under `inference_mode`, which autograd refuses, have the same results as others."""
    expected = usual(use)
    with torch.inference_mode():
        monkeypatch.setitem(globals(), "IMAGES", IMAGES.clone())
    assert_alike(USES[use](tmp_path), expected)


def ranked(folder):
    """Return the results of a sweep in one of several processes, each with another default device."""
    torch.set_default_device("meta")
    return [value.numpy() for value in swept(folder / os.environ["RANK"]) if isinstance(value, torch.Tensor)]


def test_processes_with_another_default_device(tmp_path):
    """Processes exchange tensors on the CPU, and have the same results as a single process."""
    for name in ("0", "1", "alone"):
        (tmp_path / name).mkdir()
    alone = [value.numpy() for value in swept(tmp_path / "alone") if isinstance(value, torch.Tensor)]
    for found in together(ranked, tmp_path, 2):
        assert len(found) == len(alone)
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before(enabled):
    """The collector pauses for the fields and is as it was afterwards, also after an error of the model."""
    (gc.enable if enabled else gc.disable)()
    found = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model[1].register_forward_pre_hook(lambda *_: found.append(gc.isenabled()))
    try:
        sp.receptive_fields(model, (1, 3, 8, 8))
        assert (found, gc.isenabled()) == ([False], enabled)
        with pytest.raises(sp.ForwardError):
            sp.receptive_fields(model, (1, 2, 8, 8))
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
