"""Receptive fields of models that contain TorchScript: its operators are followed, its modules take no hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spatialprobe as sp

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated", "ignore::torch.jit.TracerWarning")


class Block(nn.Module):
    """A convolution with a batch norm, and a branch on a shape that only scripting keeps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        y = F.relu(self.norm(self.conv(x)))
        if y.shape[2] > 4:
            y = F.max_pool2d(y, 2)
        return y


WAYS = {
    "scripted": torch.jit.script,
    "traced": lambda block: torch.jit.trace(block, torch.rand(1, 4, 16, 16)),
    "frozen": lambda block: torch.jit.freeze(torch.jit.script(block)),
}


def network(way=None):
    torch.manual_seed(0)
    block = Block().eval()
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), WAYS[way](block) if way else block, nn.Conv2d(4, 2, 3)
    ).eval()


@pytest.mark.parametrize("runs", [0, 3], ids=["new", "profiled"])
@pytest.mark.parametrize("inputs", [(1, 3, 16, 16), torch.rand(1, 3, 16, 16)], ids=["shape", "example"])
@pytest.mark.parametrize("way", WAYS)
def test_fields_are_those_of_the_python_module(way, inputs, runs):
    """Behind the compiled part the boxes are exact, and on meta tensors, also when its executor has optimized it."""
    truth = sp.receptive_fields(network(), inputs, layers=["0", "3"])
    model = network(way)
    for _ in range(runs):
        model(torch.rand(1, 3, 16, 16))
    for fields in (sp.receptive_fields(model, inputs), sp.receptive_fields(model, inputs, layers=nn.Conv2d)):
        for name in truth:
            assert np.array_equal(fields[name].boxes(), truth[name].boxes())
            assert fields[name].exact
            assert fields[name].fallback is None
    assert set(sp.receptive_fields(model, inputs)) == {"", "0", "1", "3"}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_compiled_part_is_left_alone(way, training):
    """Its parameters, buffers and mode are the same tensors with the same values afterwards."""
    model = network(way)
    if way != "frozen":
        model.train(training)

    def held():
        return {name: (value.data_ptr(), value.device, value.clone()) for name, value in model.state_dict().items()}

    before = held()
    sp.receptive_fields(model, (1, 3, 16, 16))
    after = held()
    assert {name: entry[:2] for name, entry in before.items()} == {name: entry[:2] for name, entry in after.items()}
    assert all(torch.equal(before[name][2], after[name][2]) for name in before)
    assert model[2].training is (training and way != "frozen")
    model.eval()(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("inputs", [(1, 3, 16, 16), torch.rand(1, 3, 16, 16)], ids=["shape", "example"])
def test_a_part_optimized_for_inference(inputs):
    """Torch runs it on mkldnn tensors: behind it the whole image, which holds the truth, with the reason."""
    model, truth = network(), sp.receptive_fields(network(), inputs, layers=["0", "3"])
    model[2] = torch.jit.optimize_for_inference(torch.jit.script(model[2]))
    fields = sp.receptive_fields(model, inputs, layers=nn.Conv2d)
    assert fields["0"].exact
    assert np.array_equal(fields["0"].boxes(), truth["0"].boxes())
    found = fields["3"]
    assert not found.exact
    assert found.is_global
    assert found.unknown == ("aten::to_mkldnn on mkldnn tensors",)
    assert found.fallback.startswith("NotImplementedError: aten::to_mkldnn")
    assert (found.boxes() == (0, 0, 16, 16)).all()
    assert sp.plan(model, torch.rand(1, 3, 16, 16))["3"].shape == (1, 2, *found.output_size)
    assert sp.sweep(model, torch.rand(2, 3, 16, 16), {"moments": sp.Moments}, progress=False).samples == 2


def test_layers_inside_the_compiled_part_are_refused():
    """A layer that TorchScript runs has no hooks: the error says so, and what to pass instead."""
    with pytest.raises(sp.ArgumentError, match=r"'2\.conv' is compiled to TorchScript"):
        sp.receptive_fields(network("scripted"), (1, 3, 16, 16), layers="2.conv")
