"""The growth of the costs with layers, channels, images in a batch or data set, pixels, and processes.

Each table is one curve. What bounds it is said beside it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

import torch
from benchmarks import growth_of_tools, sweep
from benchmarks.method import MEMORY, Figure, Table, in_child, paired
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

ROUNDS = 60
BARE = "times the bare forward"


def measure(quick: bool) -> Iterator[Table]:
    """Yield one curve after the other."""
    torch.set_num_threads(1)
    rounds, steps = (10, 3) if quick else (ROUNDS, 99)
    yield from in_child("benchmarks.growth:captures", "quick" if quick else "full", MEMORY["mapped"])
    with torch.no_grad():
        yield Table(
            "receptive fields of a stack of 3 x 3 convolutions, input 64 x 64",
            "times a meta forward",
            tuple(followed(str(n), stack(n, 8), (1, 8, 64, 64), rounds) for n in (1, 4, 16, 64)[:steps]),
            axis="convolutions",
            subject="fields",
            bound="A fixed price for setting up; each operator then costs a fixed number of integer operations.",
        )
        yield Table(
            "receptive fields of 8 convolutions and a pool",
            "times a meta forward",
            tuple(followed(str(s), pooled(), (1, 8, s, s), rounds) for s in (32, 128, 512, 2048)[:steps]),
            axis="pixels along an axis of the input",
            subject="fields",
            bound="Intervals are kept as a repeating pattern for each axis: a larger input costs next to nothing.",
        )
    yield Table(
        "sweep with Moments and Exemplars over a SimpleCNN, batch 64",
        "times the same loop without it",
        tuple(swept(str(n), n, 10 if quick else 20) for n in (256, 1024, 4096, 16384)[:steps]),
        axis="images in the data set",
        subject="sweep",
        bound="Setting up is paid once; after that every batch costs the same, and so does memory. A batch of 64 runs "
        "in two milliseconds; the two reducers take some twenty operations of torch for each layer.",
    )
    yield ranks(10 if quick else 60)
    yield from growth_of_tools.measure(quick)


@torch.no_grad()
def captures(effort: str) -> list[Table]:
    """Return the curves of capture, in a process whose allocator keeps its memory: page faults would dominate."""
    torch.set_num_threads(1)
    rounds, steps = (10, 3) if effort == "quick" else (ROUNDS, 99)
    return [
        Table(
            "capture, 16 channels of 32 x 32, batch 4, memory mapped",
            BARE,
            tuple(
                captured(str(n), stack(n, 16), torch.rand(4, 16, 32, 32), rounds) for n in (1, 2, 4, 8, 16, 32)[:steps]
            ),
            axis="convolutions",
            subject="capture",
            bound="A price for entering the probe, then one for each layer: some microseconds of Python.",
        ),
        Table(
            "capture, 4 convolutions on 32 x 32, batch 4, memory mapped",
            BARE,
            tuple(captured(str(c), stack(4, c), torch.rand(4, c, 32, 32), rounds) for c in (4, 16, 64, 256)[:steps]),
            axis="channels",
            subject="capture",
            bound="A convolution's work grows with the square of its channels, what is kept only with their number.",
        ),
        Table(
            "capture, SimpleCNN, memory mapped",
            BARE,
            tuple(
                captured(str(n), SimpleCNN().eval(), torch.rand(n, 3, 32, 32), rounds)
                for n in (1, 4, 16, 64, 256)[:steps]
            ),
            axis="images in a batch",
            subject="capture",
            bound="Python's share vanishes as the batch grows.",
        ),
    ]


def stack(layers: int, channels: int) -> nn.Module:
    """Return convolutions with their ReLUs."""
    torch.manual_seed(0)
    pairs = [(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*[module for pair in pairs for module in pair]).eval()


def pooled() -> nn.Module:
    """Return a stack that halves its maps once."""
    return nn.Sequential(stack(4, 8), nn.MaxPool2d(2), stack(4, 8)).eval()


def captured(name: str, model: nn.Module, images: torch.Tensor, rounds: int) -> Figure:
    """Return the cost of a probe that is entered again for each pass."""
    probe = sp.Probe(model)

    def run() -> None:
        with probe:
            model(images)

    run()
    return paired(lambda: model(images), {name: run}, rounds)[0]


def followed(name: str, model: nn.Module, shape: tuple[int, ...], rounds: int) -> Figure:
    """Return the cost of the receptive fields of all modules."""
    shapes_only, image = copy.deepcopy(model).to("meta"), torch.empty(shape, device="meta")
    return paired(lambda: shapes_only(image), {name: lambda: sp.receptive_fields(model, shape)}, rounds)[0]


def swept(name: str, count: int, rounds: int) -> Figure:
    """Return the cost of a sweep over images in memory."""
    model, data = SimpleCNN().eval(), torch.rand(count, 3, 32, 32)

    def loop() -> None:
        with torch.no_grad():
            for first in range(0, count, 64):
                model(data[first : first + 64])

    def run() -> None:
        sp.sweep(model, data, sweep.REDUCERS, batch_size=64, progress=False)

    return paired(loop, {name: run}, rounds)[0]


def ranks(batches: int) -> Table:
    """Return the throughput of several processes over that of one."""
    cores = len(os.sched_getaffinity(0))
    figures = (sweep.throughput(str(processes), processes, batches) for processes in range(1, cores + 1))
    return Table(
        f"sweep under torchrun on {cores} cores",
        "times the throughput of one process",
        tuple(figures),
        axis="processes",
        subject="sweep",
        bound="Processes speak once a batch or two, of failures, and merge at the end: cores and memory are the bound.",
    )
