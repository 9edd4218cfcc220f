"""The cost of a monitor relative to the bare training loop, and of looking for NaN relative to a forward pass.

A loop is forward, cross-entropy, backward and a step of SGD, on the same batch again and again. Times are those of the
processor, which a training of one thread keeps busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from benchmarks.method import Table, paired
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

ROUNDS = 10
STEPS = 100  # of which `every=100` samples one
FEW = 4  # steps of a loop whose other steps are not waited for
DEEP = 200  # layers


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of a small and a deep network that train, and of a search in a very deep one."""
    torch.set_num_threads(1)
    rounds = 5 if quick else ROUNDS
    yield sampling_one(10 if quick else STEPS, 5 if quick else 30)
    yield watching("SimpleCNN, 64 images of 32 x 32", SimpleCNN, (64, 3, 32, 32), rounds)
    yield watching("ResNet-18, 4 images of 64 x 64", resnet, (4, 3, 64, 64), rounds)
    yield searching(rounds)


def resnet() -> nn.Module:
    """Return ResNet-18 for ten classes, untrained."""
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> None:
    """Train for some steps on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def watched(model: nn.Module, loop: Callable[[], None], every: int, gradients: bool) -> None:
    """Train in a monitor."""
    with sp.Monitor(model, {"moments": sp.Moments}, every=every, gradients=gradients):
        loop()


def looping(make: Callable[[], nn.Module], shape: tuple[int, ...], steps: int) -> tuple[nn.Module, Callable[[], None]]:
    """Return a new model, and the loop that trains it for some steps."""
    torch.manual_seed(0)
    model, images, labels = make(), torch.rand(shape), torch.randint(10, shape[:1])
    return model, partial(train, model, images, labels, steps)


def sampling_one(steps: int, rounds: int) -> Table:
    """Return the time of a training of which one step is sampled over that of a bare one."""
    model, loop = looping(SimpleCNN, (16, 3, 32, 32), steps)
    contestants: dict[str, Callable[[], object]] = {
        "the bare loop again": loop,
        f"every=100: one of {steps} steps is sampled": partial(watched, model, loop, 100, False),
    }
    title = "A monitor at every 100th step: SimpleCNN, 16 images of 32 x 32"
    return Table(title, "times the bare loop", tuple(paired(loop, contestants, rounds, clock=time.process_time)))


def watching(title: str, make: Callable[[], nn.Module], shape: tuple[int, ...], rounds: int) -> Table:
    """Return the time of trainings of which each step is sampled over that of bare ones."""
    model, loop = looping(make, shape, FEW)
    contestants: dict[str, Callable[[], object]] = {
        "the bare loop again": loop,
        "Moments": partial(watched, model, loop, 1, False),
        "Moments, gradients too": partial(watched, model, loop, 1, True),
    }
    figures = tuple(paired(loop, contestants, rounds, clock=time.process_time))
    return Table(f"A monitor at every step: {title}", "times the bare loop", figures)


def searching(rounds: int) -> Table:
    """Return the time of `find_nonfinite` over that of a forward, and of a forward and backward pass."""
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(DEEP // 2)]
    model, images = nn.Sequential(*blocks), torch.rand(8, 32, 16, 16)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    found = paired(forward, {"forwards": lambda: sp.find_nonfinite(model, images)}, rounds, clock=time.process_time)
    return Table(f"find_nonfinite, {DEEP} layers, all finite", "times the bare forward", tuple(found))
