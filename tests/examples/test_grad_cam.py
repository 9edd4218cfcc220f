"""The Grad-CAM example: right against the formula written out."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
import torch.nn.functional as F
from simple_cnn import SimpleCNN

EXAMPLE = Path(__file__).parents[2] / "examples/gallery/plot_grad_cam.py"


def test_grad_cam_equals_the_formula(tmp_path, monkeypatch):
    """The map is that of the published formula, with gradients taken by autograd from a forward written out."""
    model, images = SimpleCNN(), torch.rand(2, 3, 32, 32)
    maps = F.relu(model.conv2(F.max_pool2d(F.relu(model.conv1(images)), 2)))
    logits = model.fc2(F.relu(model.fc1(F.max_pool2d(maps, 2).flatten(1))))
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), maps)
    cam = torch.einsum("nc,nchw->nhw", gradient.mean((2, 3)), maps).relu()
    expected = F.interpolate(cam[:, None], (32, 32), mode="bilinear")[:, 0]
    monkeypatch.chdir(tmp_path)
    grad_cam = runpy.run_path(str(EXAMPLE))["grad_cam"]
    assert torch.allclose(grad_cam(model, images, "conv2"), expected, atol=1e-6)
