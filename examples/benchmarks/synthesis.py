"""Maximizing channels: its cost beside bare forward and backward passes, and what its images reach with less color."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch
from benchmarks.method import Figure, Table, paired
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

SHAPE = (3, 32, 32)
LAYERS = {"conv1": 6, "conv2": 12}  # and their channels: 18 in all
GRAYS = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # of red, green and blue, as in ITU-R BT.601


def measure(quick: bool) -> Iterator[Table]:
    """Yield the time of all 18 channels in seconds, and relative to bare passes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, steps, rounds = SimpleCNN().eval(), 32 if quick else 256, 2 if quick else 5

    def maximize() -> None:
        for layer in LAYERS:
            sp.maximize_activation(model, layer, shape=SHAPE, steps=steps, progress=False)

    def bare() -> None:
        for layer, channels in LAYERS.items():
            images = torch.rand(channels, *SHAPE, requires_grad=True)
            for _ in range(steps):
                found: list[torch.Tensor] = []
                hook = model.get_submodule(layer).register_forward_hook(lambda module, args, out: found.append(out))  # noqa: B023
                model(images)
                hook.remove()
                torch.autograd.grad(found[0].diagonal().sum(), images)

    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        maximize()
        times.append(time.perf_counter() - start)
    title = f"18 channels of a SimpleCNN, {steps} steps each"
    yield Table(title, "seconds on one core", (Figure.of("maximize_activation", times),))
    figures = paired(bare, {"maximize_activation": maximize}, rounds)
    yield Table(title, "times as many bare forward and backward passes", tuple(figures))
    yield colors(32 if quick else 256)


def colors(steps: int) -> Table:
    """Return which share of the values is left with less color, with fewer steps, and in a gray search."""
    drawn, untrained = sp.examples.load_network(), chain()
    figures = [
        Figure.of(f"{name}, {kind}", shares)
        for name, model, layer in (
            ("drawn patterns, conv1", drawn, "conv1"),
            ("drawn patterns, conv4", drawn, "conv4"),
            ("drawn patterns, fc", drawn, "fc"),
            ("three convolutions, untrained, the last", untrained, "4"),
        )
        for kind, shares in shares_of(model, layer, steps).items()
    ]
    said = "No times, but values over those that the image with all its color reaches: quartiles over channels."
    return Table("Images with less color, 8 channels or classes", "times the value reached", tuple(figures), bound=said)


def chain() -> nn.Module:
    """Return three convolutions without normalization, untrained."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)
    return nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2]).eval()


@torch.no_grad()
def value_at(model: nn.Module, layer: str, images: torch.Tensor, found: sp.MaximizedActivation) -> torch.Tensor:
    """Return the values of the units that were maximized, each for its own image."""
    record = sp.capture(model, images, layers=layer)[layer].tensor
    units = record[torch.arange(len(images)), found.channels]
    for place in found.unit or ():
        units = units[:, place]
    return units


def shares_of(model: nn.Module, layer: str, steps: int) -> dict[str, list[float]]:
    """Return for each way to less color the share of the value that each channel keeps."""
    search = partial(sp.maximize_activation, model, layer, progress=False)
    eight = list(range(8))
    with torch.enable_grad():
        whole = search(eight, shape=SHAPE, steps=steps)
        early = search(eight, shape=SHAPE, steps=steps // 8)
        gray = search(eight, shape=(1, *SHAPE[1:]), steps=steps, normalize=lambda images: images.expand(-1, 3, -1, -1))
    flat = (whole.images * GRAYS).sum(dim=1, keepdim=True).expand_as(whole.images)
    values = {
        "half the color": value_at(model, layer, (whole.images + flat) / 2, whole),
        "no color": value_at(model, layer, flat, whole),
        "an eighth of the steps": early.reached,
        "searched in gray": gray.reached,
    }
    return {kind: (value / whole.reached).tolist() for kind, value in values.items()}
