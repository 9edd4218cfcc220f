"""What layers see of another layer's grid: by the recorded steps of a pass, and by a pass that begins there."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer
from zoo import ZOO

from fields.test_layout import vit
from spatialprobe.fields.forward_pass import see_units, trace_fields
from spatialprobe.fields.question import Question
from spatialprobe.model.select import all_layers


class Mixed(nn.Module):
    """Convolutions, a write into a part of their result, a constant index, a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.norm = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.LayerNorm(4)
        self.rnn, self.end = nn.GRU(4, 5, batch_first=True), nn.Identity()

    def forward(self, x):
        maps = self.relu(self.conv(x))
        maps[:, 1:3, ::2] += maps[:, :2, ::2].flip(-1)
        steps = self.rnn(self.norm(self.conv(x).mean(3).transpose(1, 2)))[0]
        return self.end(maps[..., torch.tensor([3, 0, 2])].sum(3) + steps.transpose(1, 2)[:, :4])


class Reshaped(Mixed):
    """A layer whose output gets another shape in place: its steps alone do not say what was seen."""

    def forward(self, x):
        maps = self.relu(self.conv(x))
        maps.unsqueeze_(1)
        return self.end(maps.squeeze(1))


MODELS = {
    "residual": (ZOO["residual"].model, ZOO["residual"].shape),
    "in-place": (ZOO["in-place"].model, ZOO["in-place"].shape),
    "mixed": (Mixed, (1, 3, 8, 7)),
    "vit": (vit, (1, 3, 32, 32)),
    "swin": (lambda: SwinTransformer([4, 4], 8, [1, 2], [1, 2], [4, 4]), (1, 3, 64, 64)),
}


def traced(model, shape, origin=None, layout="channels_first"):
    asked = Question((torch.empty(shape, device="meta"),), 0, None, None, (), source_layout=layout)
    return trace_fields(model, all_layers(model), asked, origin)


def seed(layer, output):
    asked = Question((output,), 0, None, None, ())
    return see_units(asked, layer, tuple(output.shape))[0]


@pytest.mark.parametrize("name", MODELS)
def test_recorded_steps_show_what_a_pass_shows(name):
    """From a layer at the front and one in the middle, each later output sees the same, with borders and without."""
    build, shape = MODELS[name]
    model = build().eval()
    trace = traced(model, shape)
    ran = Counter(layer for layer, _ in trace.runs)
    maps = [layer for layer, reach in trace.runs if ran[layer] == 1 and len(getattr(reach, "shape", ())) > 2]
    for layer in (maps[0], maps[len(maps) // 2]):
        origin = next(one for one in all_layers(model) if one.name == layer)
        found = trace.recording.follow_from(layer, partial(seed, layer))
        expected = traced(model, shape, origin).runs
        seeing = 0
        for (run, seen), (same, again) in zip(found, expected, strict=True):
            assert run == same
            assert isinstance(seen, str) == isinstance(again, str)
            assert bool(getattr(seen, "spans", ())) == bool(getattr(again, "spans", ())), run
            if getattr(seen, "spans", ()):
                assert np.array_equal(seen.dense(), again.dense()), run
                seeing += 1
        assert seeing > 1


def test_shapes_that_change_in_place():
    """Steps on a tensor that gets another shape in place are not repeated."""
    assert traced(Reshaped(), (1, 3, 8, 7)).recording is None
    assert traced(Mixed(), (1, 3, 8, 7)).recording is not None
