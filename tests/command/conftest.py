"""A folder with a model, weights and images, and a way to type commands in it."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from spatialprobe.command import model
from spatialprobe.command.main import main

NET = """
from torch import nn
from parts import head
class Net(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3)
        self.conv2 = nn.Conv2d(channels, 5, 3)
        self.head = head()
    def forward(self, images):
        return self.head(self.conv2(self.conv1(images).relu()).relu().mean((2, 3)))
net = Net()
def raises(): raise ValueError("two\\nlines")
def interrupted(): raise KeyboardInterrupt
def number(): return 3
def says(): print("a word of the model's"); return Net()
_hidden = 1
"""


class Typed(NamedTuple):
    """What a command ended with."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return a folder with `net.py`, weights in two formats, six images of 16 x 16, and an array of them."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "net.py").write_text(NET)
    (folder / "parts.py").write_text("from torch import nn\ndef head(): return nn.Linear(5, 3)\n")
    torch.manual_seed(1)
    weights = {"conv1.weight": torch.randn(4, 3, 3, 3), "conv1.bias": torch.tensor([0.1, 0.2, 0.3, -100.0])}
    weights |= {"conv2.weight": torch.randn(5, 4, 3, 3), "conv2.bias": torch.zeros(5)}
    weights |= {"head.weight": torch.randn(3, 5), "head.bias": torch.zeros(3)}
    torch.save(weights, folder / "w.pt")
    save_file(weights, folder / "w.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        (folder / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "photos" / "ab"[number % 2] / f"{number}.png")
    np.save(folder / "pixels.npy", pixels.transpose(0, 3, 1, 2))
    return folder


@pytest.fixture
def typed(made, tmp_path, monkeypatch, capsys):
    """Return a function that runs a command in a new folder, in which `{}` stands for the folder of the model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(model, "_folders", [])
    for name in ("net", "parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*argv):
        capsys.readouterr()
        try:
            status = main([one.replace("{}", str(made)) for one in argv])
        except SystemExit as end:
            status = end.code
        return Typed(status, *capsys.readouterr())

    yield run
    for name in [one for one in sys.modules if one.partition(" ")[0] in ("net", "parts")]:
        del sys.modules[name]
