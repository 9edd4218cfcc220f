"""What a plan says before a model runs is what comes true when it does."""

import pytest
import torch
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(2, 3, 8, 8)


class Mixed(nn.Module):
    """A model that turns autocast on for one of its layers, and one that does not."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = self.inside(x)
        return self.outside(y.float())


def facts(mapping):
    """Shape, dtype and bytes of each layer."""
    return {name: (one.shape, one.dtype, one.nbytes) for name, one in mapping.items()}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_autocast(dtype, device):
    """Under autocast, around the model or within it, the plan tells the dtypes that the layers' outputs have."""
    model, images = Mixed(), torch.empty_like(IMAGES, device=device)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        planned, records = sp.plan(model, images), sp.capture(model, IMAGES)
    assert planned.fallback is None
    assert facts(planned) == facts(records)
    assert planned["inside"].dtype is torch.bfloat16
    assert planned["outside"].dtype is (dtype or torch.float32)


def test_autocast_where_values_are_read():
    """Where the pass runs for real, autocast acts on it too."""

    class Reads(Mixed):
        def forward(self, x):
            return super().forward(x) * float(x.mean() > 0)

    with torch.autocast("cpu", torch.float16):
        planned = sp.plan(Reads(), IMAGES)
    assert "no values" in planned.fallback
    assert planned["outside"].dtype is torch.float16


def test_tensors_in_plain_attributes():
    """A tensor that is neither a parameter nor a buffer takes part in the pass, and no fake one stays in its place."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.scale = torch.ones(4, 1, 1)
            self.latest = None

        def forward(self, x):
            self.latest = self.conv(x)
            return self.latest * self.scale

    model = Plain()
    planned = sp.plan(model, IMAGES)
    assert planned.fallback is None
    assert model.latest is None
    assert type(model.scale) is torch.Tensor


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_modes(mode):
    """A plan is the same whatever mode it is made in."""
    expected = facts(sp.plan(Mixed(), IMAGES))
    model = Mixed()
    with mode():
        assert facts(sp.plan(model, IMAGES)) == expected


def test_real_pass_gets_copies():
    """Where the pass runs for real, a model that modifies its input in place leaves the caller's as it is."""

    class Spoils(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x -= x.mean().item()
            return self.conv(x)

    images = IMAGES.clone()
    assert sp.plan(Spoils(), images).fallback is not None
    assert torch.equal(images, IMAGES)
