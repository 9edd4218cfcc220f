"""The cost of maximizing all channels of a SimpleCNN, beside the same number of bare forward and backward passes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from benchmarks.method import Figure, Table, paired
from simple_cnn import SimpleCNN

import spatialprobe as sp

SHAPE = (3, 32, 32)
LAYERS = {"conv1": 6, "conv2": 12}  # and their channels: 18 in all


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
