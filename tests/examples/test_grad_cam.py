"""The Grad-CAM example: right against the formula written out, and it draws."""

from __future__ import annotations

import plot_grad_cam
import torch
import torch.nn.functional as F
from PIL import Image
from simple_cnn import SimpleCNN


def test_grad_cam_equals_the_formula():
    """The map is that of the published formula, with gradients taken by autograd from a forward written out."""
    model, images = SimpleCNN(), torch.rand(2, 3, 32, 32)
    maps = F.relu(model.conv2(F.max_pool2d(F.relu(model.conv1(images)), 2)))
    logits = model.fc2(F.relu(model.fc1(F.max_pool2d(maps, 2).flatten(1))))
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), maps)
    cam = torch.einsum("nc,nchw->nhw", gradient.mean((2, 3)), maps).relu()
    expected = F.interpolate(cam[:, None], (32, 32), mode="bilinear")[:, 0]
    assert torch.allclose(plot_grad_cam.grad_cam(model, images, "conv2"), expected, atol=1e-6)


def test_example_draws(tmp_path, capsys):
    """The script trains, draws eight images, and says where."""
    threads = torch.get_num_threads()
    plot_grad_cam.main(["--out", str(tmp_path / "cam.png"), "--limit", "40"])
    torch.set_num_threads(threads)
    with Image.open(tmp_path / "cam.png") as picture:
        assert picture.width == 1200
    assert "cam.png" in capsys.readouterr().out
