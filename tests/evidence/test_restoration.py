"""Every measure leaves the model, its input and all random state as they were, and says the same every time."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence

IMAGES, LABELS = torch.rand(6, 3, 24, 24), torch.arange(6) % 2


def network():
    """Convolutions with a batch norm and dropout, in training mode but for one frozen part, with a hook."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()
    )
    model.train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    model.calls = []
    model[4].register_forward_hook(lambda module, args, output: None)
    return model


def coherence(model, images):
    top = sp.sweep(model, images, {"top": sp.Exemplars}, progress=False)["4"]["top"]
    return evidence.patch_coherence(top, images, sp.receptive_fields(model, images[:1])["4"])


MEASURES = {
    "footprint": lambda model, images: evidence.footprint(model, images, "4", (8, 8)),
    "equivariance": lambda model, images: evidence.equivariance_error(model, images, "4", (2, 2)),
    "orientation": lambda model, images: evidence.orientation_tuning(model, "4", angles=6, phases=4, frequencies=[0.2]),
    "surgery": lambda model, images: evidence.kernel_surgery(model, "4", how="shuffle"),
    "frozen": lambda model, images: evidence.frozen_copy(model),
    "coherence": coherence,
    "probe": lambda model, images: evidence.linear_probe(
        model, images, LABELS, "4", test_images=images, test_labels=LABELS
    ),
}


def everything(model):
    """All that a measure could change."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "objects": [id(value) for value in (*model.parameters(), *model.buffers())],
        "training": [module.training for module in model.modules()],
        "gradients": [(p.requires_grad, p.grad) for p in model.parameters()],
        "hooks": [list(module._forward_hooks) for module in model.modules()],
        "random": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@pytest.mark.parametrize("name", MEASURES)
def test_leaves_no_trace(name):
    """Weights, buffers, modes, gradients, hooks, attributes, random state and images are what they were."""
    model, images = network(), IMAGES.clone()
    before = everything(model)
    MEASURES[name](model, images)
    after = everything(model)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("name", [name for name in MEASURES if name not in ("surgery", "frozen")])
def test_leaves_no_trace_after_an_error(name):
    """The same when the model raises in the middle."""
    model = network()

    def fail(module, args):
        if not args[0].is_meta:
            raise RuntimeError("no")

    model[3].register_forward_pre_hook(fail)
    before = everything(model)
    with pytest.raises((RuntimeError, sp.SpatialProbeError)):
        MEASURES[name](model, IMAGES)
    after = everything(model)
    assert [key for key in before if not same(before[key], after[key])] == []


@pytest.mark.parametrize("name", MEASURES)
def test_says_the_same_every_time(name):
    """Whatever the program's random state, and for a copy of the model as well."""
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = copy.deepcopy(network())
        torch.manual_seed(seed)
        results.append(MEASURES[name](model, IMAGES))
    first, second = ([*map(str, contents(result))] for result in results)
    assert first == second


def contents(result):
    return result.state_dict().values() if isinstance(result, nn.Module) else vars(result).values()


@pytest.mark.parametrize("name", [name for name in MEASURES if name not in ("surgery", "frozen")])
def test_results_are_frozen_and_say_what_they_are(name):
    """A result cannot be changed, counts what it rests on, and names its layer."""
    result = MEASURES[name](network(), IMAGES)
    assert result.n > 0
    assert result.layer == "4"
    assert repr(result).startswith(f"{type(result).__name__}('4'")
    with pytest.raises(AttributeError):
        result.layer = "other"
    if isinstance(result, evidence.result.Averaged):
        assert result.mean == pytest.approx(result.values.mean())
        assert result.spread == pytest.approx(result.values.std())
        assert len(result.values) == result.n
