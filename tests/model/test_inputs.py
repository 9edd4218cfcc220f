"""A model that modifies its input in place changes nothing of the caller's, and nothing of what is measured."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.model.inputs import copy_inputs


class Spoils(nn.Module):
    """A model that normalizes its input in place, as many do."""

    def __init__(self, *, clones=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)
        self.clones = clones

    def forward(self, x):
        if self.clones:
            x = x.clone()
        x -= 0.5
        x *= 2
        return self.last(self.conv(x).relu())


class Reads(Spoils):
    """The same, and it reads values, so that it cannot be followed on tensors without any."""

    def forward(self, x):
        return super().forward(x) * float(x.sum().item() is not None)


IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 0, 1])
REDUCERS = {"moments": sp.Moments, "top": sp.Exemplars}


def page(model, images, folder):
    return sp.write_report(folder / "page.html", model, images).path.read_text()


def swept(model, images, **options):
    return sp.sweep(model, images, REDUCERS, batch_size=2, **options)["last"]


# Each runs the model on images, and returns what came of it.
RUNS = {
    "capture": lambda model, images, folder: sp.capture(model, images)["conv"].numpy(),
    "keywords": lambda model, images, folder: sp.capture(model, kwargs={"x": images})["conv"].numpy(),
    "plan": lambda model, images, folder: sp.plan(model, images)["conv"].nbytes,
    "fields": lambda model, images, folder: sp.receptive_fields(model, images)["last"].boxes(),
    "effective": lambda model, images, folder: sp.effective_receptive_field(model, images, "last").map,
    "sweep": lambda model, images, folder: swept(model, images)["moments"].mean,
    "exemplars": lambda model, images, folder: swept(model, images)["top"].values,
    "stream": lambda model, images, folder: swept(model, [images[:2], images[2:]])["moments"].mean,
    "pairs": lambda model, images, folder: swept(model, [(images[:2], 0), (images[2:], 1)])["moments"].mean,
    "data set": lambda model, images, folder: swept(model, torch.utils.data.TensorDataset(images))["moments"].mean,
    "views": lambda model, images, folder: swept(model, [images[i : i + 1] for i in range(4)])["moments"].mean,
    "footprint": lambda model, images, folder: sp.evidence.footprint(model, images, "last", pixel=(6, 6)).changed,
    "equivariance": lambda model, images, folder: sp.evidence.equivariance_error(model, images, "last", (1, 0)).values,
    "orientation": lambda model, images, folder: sp.evidence.orientation_tuning(model, "last").response,
    "linear probe": lambda model, images, folder: (
        sp.evidence.linear_probe(model, images, LABELS, "last", test_images=images, test_labels=LABELS).values
    ),
    "page": page,
}


@pytest.mark.parametrize("kind", [Spoils, Reads])
@pytest.mark.parametrize("run", RUNS)
def test_as_with_a_model_that_clones_its_input(run, kind, tmp_path):
    """What is measured is what the twin gives that clones its input first, and the images are as they were."""
    images = IMAGES.clone()
    found = RUNS[run](kind().eval(), images, tmp_path)
    assert torch.equal(images, IMAGES)
    expected = RUNS[run](kind(clones=True).eval(), images, tmp_path)
    np.testing.assert_array_equal(found, expected)


def test_page_with_a_sweep(tmp_path):
    """The page finds that the sweep fits, and cuts its patches from images as they were."""
    model, images = Spoils().eval(), IMAGES.clone()
    found = sp.sweep(model, images, REDUCERS)
    assert sp.write_report(tmp_path / "page.html", model, images, sweep=found, dataset=images).doubts == ()
    assert torch.equal(images, IMAGES)


def test_sweep_reads_no_image_twice():
    """A sweep of the same tensor gives the same again."""
    images = IMAGES.clone()
    first, second = (swept(Spoils().eval(), images)["moments"].mean for _ in range(2))
    assert torch.equal(first, second)


def test_gradients_reach_the_inputs():
    """The copy is in the graph of the input, which gets its gradient; a leaf may be modified in place by the model."""
    images = IMAGES.clone().requires_grad_()
    probe = sp.capture(Spoils(), images, gradients=True)
    probe.output.sum().backward()
    expected = IMAGES.clone().requires_grad_()
    Spoils(clones=True)(expected).sum().backward()
    assert torch.equal(images.grad, expected.grad)


def test_one_tensor_twice_stays_one():
    """A model that asks whether two of its inputs are the same tensor gets the same answer."""
    attention = nn.MultiheadAttention(4, 1, batch_first=True).eval()
    seen = []
    attention.register_forward_pre_hook(lambda module, args: seen.append(args[0] is args[1]))
    tokens = torch.rand(1, 3, 4)
    sp.capture(attention, tokens, tokens, tokens, layers="out_proj", missing="ignore")
    assert seen == [True]


def test_copies_of_nested_inputs():
    """Tensors are copied wherever they are, everything else is passed as it is."""
    marker, tensor = object(), torch.ones(2)
    copied = copy_inputs({"a": [tensor, marker], "b": (None, 3, tensor)})
    assert copied["a"][1] is marker
    assert copied["b"][:2] == (None, 3)
    assert copied["a"][0] is copied["b"][2] is not tensor
    assert torch.equal(copied["a"][0], tensor)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, partial(torch.autocast, "cpu")])
def test_modes(mode):
    """The images stay as they are in every mode."""
    images = IMAGES.clone()
    with mode():
        sp.capture(Spoils(), images)
    assert torch.equal(images, IMAGES)
