"""What a checkup costs beside a plain evaluation loop over the same images, and what of it does not grow with them.

ResNet-18 has the 3 x 3 stem that it is given for images of 32 x 32 pixels. What the limits of the rules rest on is
measured in `limits.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from benchmarks.method import Table, paired
from torch import nn

import spatialprobe as sp

BATCH = 64


def measure(quick: bool) -> Iterator[Table]:
    """The cost on ResNet-18 at CIFAR size."""
    torch.set_num_threads(1)
    model = make_model()
    count, rounds = (128, 2) if quick else (512, 5)
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def evaluate() -> None:
        for some in images.split(BATCH):
            model(some)

    def check(some: torch.Tensor) -> object:
        return sp.checkup(model, some, batch_size=BATCH, progress=False)

    check(images[:2])
    whole, few = f"checkup of {count} images", "checkup of 16 images"
    contestants = {whole: lambda: check(images), few: lambda: check(images[:16])}
    figures = paired(evaluate, contestants, rounds, clock=time.process_time)
    grows = (figures[0].median - figures[1].median) * count / (count - 16)
    yield Table(
        f"all rules on ResNet-18 at CIFAR size, {count} images",
        "times the CPU time of a plain evaluation loop over all images",
        tuple(figures),
        bound="The second row is what does not grow with the data: fields, and passes on the first 16 samples. The "
        f"rest of the first, {grows:.2f} times the loop, does.",
    )


def make_model() -> nn.Module:
    """Return ResNet-18 for small images, with random weights."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(weights=None, num_classes=10)
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.eval()
