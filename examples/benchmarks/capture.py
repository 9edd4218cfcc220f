"""The cost of capturing the outputs of all convolutions relative to the bare forward pass, without gradients.

Beside each cost stands how many of the records are right: equal, but for rounding, to a clone taken in an independent
hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from benchmarks.method import MEMORY, Figure, Table, in_child, paired
from benchmarks.peers import Run, capture_peers
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

MODELS = {
    "SimpleCNN, batch 4": ((4, 3, 32, 32), 2000),  # input shape, rounds
    "SimpleCNN, batch 256": ((256, 3, 32, 32), 100),
    "VGG-16, batch 2 of 112 x 112": ((2, 3, 112, 112), 10),
    "ResNet-18, batch 2": ((2, 3, 224, 224), 10),
    "ResNet-50, batch 2": ((2, 3, 224, 224), 10),
    "DenseNet-121, batch 2": ((2, 3, 224, 224), 10),
    "ConvNeXt_Tiny, batch 2": ((2, 3, 224, 224), 10),
}
BOUND = {
    "SimpleCNN, batch 4": "A forward of a fifth of a millisecond. A hook for each layer that detaches, and a pair "
    "around the model, is what any exact capture needs: half of what a probe adds. The rest is Python, some twelve "
    "microseconds: adding and removing hooks so that an interrupt leaves none behind, counting runs, comparing version "
    "counters. A new probe also lists the model's modules, checks its arguments, and copies, since nothing is known of "
    "the model yet.",
}
CLONE = "hook: detach().clone()"
ROUNDING = 1e-4  # of the largest value
PASSES = 10  # in one block of a probe
SLOW = {"TorchLens record"}  # takes too long for many rounds


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of each model, with fresh memory and with memory already mapped, in a process of its own."""
    for model in list(MODELS)[:1] if quick else MODELS:
        for memory, variables in MEMORY.items():
            for table in in_child("benchmarks.capture:measured", model, variables):
                title, bound = f"{model}, memory {memory}", BOUND.get(model, "")
                yield Table(title, table.unit, table.figures, table.missing, bound=bound, last="right records")


@torch.no_grad()
def measured(name: str) -> list[Table]:
    """Return one model's figures, measured in this process."""
    torch.set_num_threads(1)
    shape, rounds = MODELS[name]
    model = network(name).eval()
    images = torch.rand(shape)
    layers = {key: module for key, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    runs = {**hooks(model, images, layers), **probes(model, images), **capture_peers(model, images, layers)}
    installed = {key: run for key, run in runs.items() if run is not None}
    truth = {key: value.clone() for key, value in installed[CLONE]().items()}
    remarks = {key: share_right(run(), truth) for key, run in installed.items()}
    slow = {key: installed.pop(key) for key in SLOW & installed.keys()}
    figures = paired(lambda: model(images), installed, rounds, remarks=remarks)
    figures += paired(lambda: model(images), slow, min(rounds, 10), remarks=remarks)
    if rounds > 10 * PASSES:
        figures += held_open(model, images, truth, rounds // PASSES)
    missing = tuple(key for key, run in runs.items() if run is None)
    return [Table(name, "times the bare forward", tuple(figures), missing)]


def network(name: str) -> nn.Module:
    """Return the model of that name, with weights as they are initialized."""
    if name.startswith("SimpleCNN"):
        return SimpleCNN()
    from torchvision import models

    return models.get_model(name.split(",")[0].replace("-", "").lower(), weights=None)


def share_right(records: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor]) -> str:
    """Return how many layers' records are what the layer returned; read after the pass, as a user reads them.

    The truth is of another pass, in which convolutions may round otherwise; what was modified in place is far off.
    """
    right = sum((records[layer] - value).abs().max() <= ROUNDING * value.abs().max() for layer, value in truth.items())
    return f"{int(right)} of {len(truth)} right"


def hooks(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Run]:
    """Return hand-written hooks, which are registered only while their contestant runs."""
    buffers: dict[str, torch.Tensor] = {}

    def with_hooks(keep: Callable[[str, torch.Tensor], torch.Tensor], *, around: bool = False) -> Run:
        def run() -> dict[str, torch.Tensor]:
            kept: dict[str, torch.Tensor] = {}

            def hook(name: str) -> Callable[..., None]:
                return lambda module, args, output: kept.update({name: keep(name, output)})

            handles = [layer.register_forward_hook(hook(name)) for name, layer in layers.items()]
            if around:
                handles.append(model.register_forward_pre_hook(lambda module, args: None))
                handles.append(model.register_forward_hook(lambda module, args, output: None, always_call=True))
            model(images)
            for handle in handles:
                handle.remove()
            return kept

        return run

    def into_buffer(name: str, output: torch.Tensor) -> torch.Tensor:
        if name not in buffers:
            buffers[name] = torch.empty_like(output)
        return buffers[name].copy_(output)

    return {
        "hook: detach()": with_hooks(lambda name, output: output.detach()),
        "hook: detach(), and an empty pair around the model": with_hooks(lambda name, out: out.detach(), around=True),
        CLONE: with_hooks(lambda name, output: output.detach().clone()),
        "hook: copy into kept buffers": with_hooks(into_buffer),
    }


def probes(model: nn.Module, images: torch.Tensor) -> dict[str, Run]:
    """Return probes: two that are entered again for each pass and drop the last records, and a new one for each."""

    def with_probe(make: Callable[[], sp.Probe]) -> Run:
        def run() -> Mapping[str, torch.Tensor]:
            with make() as probe:
                model(images)
            return Records(probe)

        return run

    probe, copying = sp.Probe(model), sp.Probe(model, copy="always")
    return {
        "Probe": with_probe(lambda: probe),
        "Probe, copy='always'": with_probe(lambda: copying),
        "Probe, made for each pass": with_probe(lambda: sp.Probe(model)),
    }


def held_open(model: nn.Module, images: torch.Tensor, truth: Mapping[str, torch.Tensor], rounds: int) -> list[Figure]:
    """Return the cost of a probe that stays on for several passes and keeps all records, over bare passes."""
    probe = sp.Probe(model)

    def passes() -> None:
        for _ in range(PASSES):
            model(images)

    def probed() -> None:
        with probe:
            passes()

    probed()
    name = f"Probe, {PASSES} passes in one block"
    remark = share_right({layer: probe.calls(layer)[-1].tensor for layer in truth}, truth)
    return paired(passes, {name: probed}, rounds, remarks={name: remark})


class Records(Mapping[str, torch.Tensor]):
    """The tensors of a probe's records, read only when needed."""

    def __init__(self, probe: sp.Probe) -> None:
        self._probe = probe

    def __getitem__(self, layer: str) -> torch.Tensor:
        return self._probe[layer].tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._probe)

    def __len__(self) -> int:
        return len(self._probe)
