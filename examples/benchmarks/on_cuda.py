"""The costs on a CUDA device, timed by its own events: capture, moving records to the CPU, and GPU memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from benchmarks import capture
from benchmarks.method import Figure, Table, paired
from torch import nn

import spatialprobe as sp

SHAPE = (16, 3, 224, 224)


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of ResNet-50 on the GPU; without one, a table that says so."""
    if not torch.cuda.is_available():
        yield Table("on CUDA", "times the bare forward", (), ("a CUDA device",))
        return
    model = capture.network("ResNet-50").eval().cuda()
    images = torch.rand(SHAPE, device="cuda")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    rounds = 10 if quick else 50
    with torch.no_grad():
        contestants = {**capture.hooks(model, images, layers), **capture.probes(model, images)}
        figures = paired(lambda: model(images), contestants, rounds, clock=event_clock())
        yield Table(f"capture, ResNet-50, {SHAPE}", "times the bare forward", tuple(figures))
        yield offload(model, images, layers, rounds)
        yield memory(model, images)


def event_clock() -> Callable[[], float]:
    """Return a clock of seconds on the GPU: an event is recorded and waited for."""
    start = torch.cuda.Event(enable_timing=True)
    start.record()

    def clock() -> float:
        now = torch.cuda.Event(enable_timing=True)
        now.record()
        now.synchronize()
        return start.elapsed_time(now) / 1000

    return clock


def offload(model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module], rounds: int) -> Table:
    """Return the time to move records to the CPU: by a hook that waits for each copy, and by a probe that does not."""

    def waiting() -> None:
        kept = {}
        handles = [
            layer.register_forward_hook(lambda module, args, output, name=name: kept.update({name: output.cpu()}))
            for name, layer in layers.items()
        ]
        model(images)
        for handle in handles:
            handle.remove()

    def probed() -> None:
        with sp.Probe(model, device="cpu") as probe:
            model(images)
        for record in probe.records:
            record.tensor  # noqa: B018 (it is complete when it is read)

    contestants = {"hook: output.cpu()": waiting, "Probe(device='cpu'), all records read": probed}
    figures = paired(lambda: model(images), contestants, rounds, clock=event_clock())
    return Table("records moved to the CPU, ResNet-50", "times the bare forward", tuple(figures))


def memory(model: nn.Module, images: torch.Tensor) -> Table:
    """Return the peak GPU memory during one pass, over that of a bare one."""
    figures = []
    bare = peak(lambda: model(images))
    for name, device in {"Probe": None, "Probe(device='cpu')": "cpu"}.items():
        with sp.Probe(model, device=device):
            ratio = peak(lambda: model(images)) / bare
        figures.append(Figure(name, ratio, ratio, ratio, f"bare {bare >> 20} MiB"))
    return Table("peak memory on the card, ResNet-50", "times the bare forward", tuple(figures))


def peak(run: Callable[[], object]) -> int:
    """Return the peak GPU memory in bytes."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()
