"""Restoration: functions that run a model leave it, the caller's tensors and all random states as they were."""

from __future__ import annotations

import pytest
import torch
from stateful import Stateful, Writes, everything, same
from torch import nn

import spatialprobe as sp
from spatialprobe import evidence
from spatialprobe.testing import check_rule

pytestmark = pytest.mark.no_cover

SHAPE = (6, 3, 24, 24)
LABELS = torch.arange(6) % 2
REDUCERS = {"moments": sp.Moments, "top": sp.Exemplars}


def images():
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))


def report(model, batch, folder):
    swept = sp.sweep(model, batch, REDUCERS, progress=False)
    found = sp.write_report(folder / "page.html", model, batch[:2], sweep=swept, dataset=batch)
    assert found.doubts == ()
    return (folder / "page.html").read_text()


def mean(output):
    return output.mean((1, 2, 3))


def rule(model, batch, folder):
    check_rule(model, (1, 3, 7, 7))


def equivariance(model, batch, folder):
    if not model.reads:
        return evidence.equivariance_error(model, batch, "conv2", (2, 2))
    with pytest.raises(sp.ArgumentError, match="do not lie on a grid"):  # it reads a value of the whole image
        evidence.equivariance_error(model, batch, "conv2", (2, 2))
    return "refused"


def concepts(model, batch, folder):
    data = [(image, image[0] > 0.5) for image in batch]
    if not model.reads:
        return evidence.concept_alignment(model, data, "conv2", progress=False)["conv2"]
    with pytest.raises(sp.UnsupportedOutputError, match="no place in the image"):  # it reads a value of all of it
        evidence.concept_alignment(model, data, "conv2", progress=False)
    return "refused"


RUNS = {
    "fields": lambda model, batch, folder: repr(sp.receptive_fields(model, batch[:1])),
    "fields of a shape": lambda model, batch, folder: repr(sp.receptive_fields(model, (1, 3, 24, 24))),
    "attribution": lambda model, batch, folder: sp.attribute(model, batch, mean, layers="conv2", at="output")["conv2"],
    "ablation": lambda model, batch, folder: sp.attribute(
        model, batch, mean, layers="conv2", at="output", method="ablation", batch_size=12
    )["conv2"],
    "integrated gradients": lambda model, batch, folder: sp.attribute(
        model, batch, mean, layers="conv2", at="output", method="integrated_gradients", batch_size=12
    )["conv2"],
    "channel deletion": lambda model, batch, folder: evidence.channel_deletion(
        model, batch, sp.attribute(model, batch, mean, layers="conv2", at="output")["conv2"], k=1
    ),
    "plan": lambda model, batch, folder: repr(sp.plan(model, batch)),
    "effective field": lambda model, batch, folder: sp.effective_receptive_field(model, batch, "conv2"),
    "sweep": lambda model, batch, folder: sp.sweep(model, batch, REDUCERS, batch_size=4, progress=False),
    "sweep of batches": lambda model, batch, folder: sp.sweep(model, [batch, batch], REDUCERS, progress=False),
    "report": report,
    "concepts": concepts,
    "maximized": lambda model, batch, folder: sp.maximize_activation(
        model, "conv2", [1, 3], shape=(3, 24, 24), steps=3, progress=False
    ),
    "footprint": lambda model, batch, folder: evidence.footprint(model, batch, "conv2", (8, 8)),
    "equivariance": equivariance,
    "orientation": lambda model, batch, folder: evidence.orientation_tuning(
        model, "conv2", angles=6, phases=4, frequencies=[0.2]
    ),
    "linear probe": lambda model, batch, folder: evidence.linear_probe(
        model, batch, LABELS, "conv2", test_images=batch, test_labels=LABELS
    ),
    "surgery": lambda model, batch, folder: evidence.kernel_surgery(model, "conv2", how="shuffle"),
    "frozen copy": lambda model, batch, folder: evidence.frozen_copy(model),
    "check_rule": rule,
}


def as_text(result):
    """Return the content of a result as text."""
    held = result.state_dict() if isinstance(result, nn.Module) else getattr(result, "__dict__", result)
    return repr({key: str(value) for key, value in held.items()} if isinstance(held, dict) else held)


@pytest.mark.parametrize("kind", [Stateful, Writes])
@pytest.mark.parametrize("reads", [False, True], ids=["shapes", "values"])
@pytest.mark.parametrize("name", RUNS)
def test_everything_is_as_before(name, reads, kind, tmp_path):
    """A model that changes its input, its state, all random states, and possibly its weights, is restored."""
    model, batch = kind(reads=reads), images()
    before = everything(model)
    first = RUNS[name](model, batch, tmp_path)
    after = everything(model)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert torch.equal(batch, images())
    torch.rand(1)
    assert as_text(RUNS[name](model, batch, tmp_path)) == as_text(first)  # state that was not restored would show here


def test_capture_gives_the_model_copies():
    """Inputs of `capture` in any container are not modified, and gradients reach the caller's own tensors."""

    class Spoils(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x, others, *, scale):
            x -= 0.5
            others[0].zero_()
            others[1]["again"].mul_(scale)
            scale.zero_()
            return self.conv(x + others[1]["again"])

    x, other, again, scale = torch.ones(1, 3, 4, 4), torch.ones(2), torch.ones(1, 3, 4, 4), torch.tensor(2.0)
    x.requires_grad_()
    probe = sp.capture(Spoils(), x, [other, {"again": again}], kwargs={"scale": scale}, gradients=True, layers="conv")
    probe.output.sum().backward()
    assert x.grad is not None
    assert (x.sum(), other.sum(), again.sum(), scale) == (48, 2, 48, 2)


def test_a_tensor_given_twice_is_one_tensor():
    """A model that gets one tensor for two arguments sees its changes in both, as it would without the library."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, bias=False)

        def forward(self, x, y):
            x.zero_()
            return self.conv(y)

    x = torch.rand(1, 3, 4, 4)
    assert sp.capture(Both(), x, x)["conv"].tensor.abs().max() == 0
    assert x.abs().max() > 0


def test_plan_leaves_the_shape_of_its_input():
    """A model that changes its input's shape in place works on a copy, with values or without."""

    class Unsqueezes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return self.conv(x.unsqueeze_(1))

    for device in ("cpu", "meta"):
        x = torch.zeros(2, 8, 8, device=device)
        assert sp.plan(Unsqueezes(), x)["conv"].shape == (2, 2, 6, 6)
        assert x.shape == (2, 8, 8)


def test_results_are_those_of_the_model_that_clones():
    """A model that modifies its input in place has the same results as one that works on a copy."""

    class Twin(nn.Sequential):
        def __init__(self, *layers, clones):
            super().__init__(*layers)
            self.clones = clones

        def forward(self, x):
            x = x.clone() if self.clones else x
            x -= 0.5
            x *= 2
            return super().forward(x)

    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)
    spoils, clones = Twin(*layers, clones=False), Twin(*layers, clones=True)
    found, truth = (evidence.footprint(model, images(), "2", (12, 12)) for model in (spoils, clones))
    assert (found.changed == truth.changed).all()
    assert found.within
    data = images()
    found, truth = (sp.sweep(model, data, REDUCERS, progress=False) for model in (spoils, clones))
    assert torch.equal(found["2"]["moments"].mean, truth["2"]["moments"].mean)
    assert torch.equal(data, images())
    found, truth = (sp.effective_receptive_field(model, data, "2") for model in (spoils, clones))
    assert (found.map == truth.map).all()
