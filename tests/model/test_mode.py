"""What runs in training mode is named where its values are shown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spatialprobe as sp
from spatialprobe.model.mode import find_training_modules


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(2), nn.InstanceNorm2d(2, track_running_stats=True), nn.Dropout2d(0.2)])
def test_a_probe_says_what_ran_in_training_mode(norm):
    """The table names the layers whose values depend on the mode, and says nothing in evaluation mode."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.Dropout(0.0), nn.InstanceNorm2d(2))
    assert find_training_modules(model.train()) == ["1"]
    found = sp.capture(model, torch.rand(2, 1, 6, 6))
    assert repr(found).splitlines()[-1].startswith("In training mode ran '1': ")
    assert "In training mode ran" in found._repr_html_()
    assert "training mode" not in repr(sp.capture(model.eval(), torch.rand(2, 1, 6, 6)))
