"""The cost of comparing ResNet-18 with itself over all convolutions, relative to two plain loops over the same images.

The rival is what one would write by hand: hooks that keep each layer's flattened output of a batch, and products of
Gram matrices for each pair of layers. It finds no channels, no standard error, and overwritten values where the model
writes in place; torch_cka does the same with more passes, and NaN for constant layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from benchmarks.method import Table, paired
from torch import nn

import spatialprobe as sp

BATCH = 64


def measure(quick: bool) -> Iterator[Table]:
    """Yield the table of a model with a copy of itself, with itself, and what is written by hand."""
    from torchvision.models import resnet18

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet18(weights=None).eval()
    side, rounds = (64, 5) if quick else (112, 5)
    images = torch.rand(4 * BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    other = deepcopy(model)

    def loops() -> None:
        with torch.no_grad():
            for one in (model, other):
                for batch in images.split(BATCH):
                    one(batch)

    contestants: dict[str, Callable[[], object]] = {
        "with a copy of itself": lambda: sp.compare(model, other, images, batch_size=BATCH, progress=False),
        "with itself, which runs once": lambda: sp.compare(model, model, images, batch_size=BATCH, progress=False),
        "hooks and Gram matrices by hand, no channels": lambda: by_hand(model, other, images),
    }
    figures = paired(loops, contestants, rounds, clock=time.process_time)
    title = (
        f"comparison of the 20 convolutions of ResNet-18, {len(images)} images of {side} x {side}, batches of {BATCH}"
    )
    yield Table(title, "times the CPU time of two plain loops", tuple(figures))


def by_hand(one: nn.Module, other: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the sums over batches of the biased products of Gram matrices, for each pair of convolutions."""
    kept: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda module, args, output: kept.append(output.flatten(1)))
        for model in (one, other)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    found = torch.zeros(())
    with torch.no_grad():
        for batch in images.split(BATCH):
            kept.clear()
            one(batch)
            other(batch)
            grams = torch.stack([rows @ rows.T for rows in kept])
            grams = grams - grams.mean(dim=1, keepdim=True)
            vectors = (grams - grams.mean(dim=2, keepdim=True)).flatten(1)
            found = found + vectors @ vectors.T
    for handle in handles:
        handle.remove()
    return found
