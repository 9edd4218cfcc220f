"""What capturing the outputs of all convolutions costs beside the bare forward pass, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from benchmarks.method import MEMORY, Table, in_child, ratios, take_turns
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

MODELS = {
    "SimpleCNN, batch 4": ((4, 3, 32, 32), 3000),  # input shape, rounds
    "SimpleCNN, batch 256": ((256, 3, 32, 32), 150),
    "ResNet-50, batch 2": ((2, 3, 224, 224), 25),
}


def measure(quick: bool) -> list[Table]:
    """Each model with memory as the allocator comes, and already mapped, in a process of its own."""
    tables = []
    for model in list(MODELS)[:1] if quick else MODELS:
        for memory, variables in MEMORY.items():
            (table,) = in_child("benchmarks.capture:measured", model, variables)
            tables.append(Table(f"{model}, memory {memory}", table.unit, table.figures, table.missing))
    return tables


@torch.no_grad()
def measured(name: str) -> list[Table]:
    """One model's contestants in this process."""
    shape, rounds = MODELS[name]
    model = network(name).eval()
    images = torch.rand(shape)
    times = take_turns({"bare forward": lambda: model(images), **contenders(model, images)}, rounds)
    return [Table(name, "times the bare forward", tuple(ratios(times, "bare forward")))]


def network(name: str) -> nn.Module:
    """The model of that name, with weights as they are initialised."""
    if name.startswith("SimpleCNN"):
        return SimpleCNN()
    from torchvision.models import resnet50

    return resnet50(weights=None)


def contenders(model: nn.Module, images: torch.Tensor) -> dict[str, Callable[[], None]]:
    """Ways to keep the outputs of all convolutions of one pass; hooks are on only while their contestant runs."""
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    probe, copying = sp.Probe(model), sp.Probe(model, copy="always")

    def with_hooks(keep: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            kept: list[torch.Tensor] = []
            handles = [conv.register_forward_hook(lambda m, a, out: kept.append(keep(out))) for conv in convs]
            model(images)
            for handle in handles:
                handle.remove()

        return run

    def with_probe(chosen: sp.Probe) -> Callable[[], None]:
        def run() -> None:
            with chosen:
                model(images)

        return run

    return {
        "hook: detach() (wrong if in place)": with_hooks(lambda out: out.detach()),
        "hook: detach().clone()": with_hooks(lambda out: out.detach().clone()),
        "Probe, after its first pass": with_probe(probe),
        "Probe, copy='always'": with_probe(copying),
        "Probe, first pass": lambda: with_probe(sp.Probe(model))(),
    }
