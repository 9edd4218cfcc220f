"""The cost of a sweep relative to the loop that one would write without it: time, processes, writing, memory.

The loop is `model(batch)` over the same tensor without gradients. Everything is on one thread a process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarks.method import Figure, Table, paired
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

BATCH = 64
BATCHES = 157  # the 10,000 images of a test set, for what is timed in processes of its own
PAIRED = 40  # those of a pass that is paired with the loop, round after round
WIDE = 4  # and where the maps are sixteen times as large
ROUNDS = 10
REDUCERS = {"moments": sp.Moments, "top": sp.Exemplars}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def measure(quick: bool) -> Iterator[Table]:
    """Yield the tables of the pass itself, two processes, the store, and memory at ten times the data."""
    torch.set_num_threads(1)
    rounds = 5 if quick else ROUNDS
    batches = 10 if quick else PAIRED
    wide = "ResNet-18 of CIFAR's shape (3 x 3 stem, no pooling)"
    yield overhead(f"the 20 convolutions of {wide}", resnet(wide=True), 2 if quick else WIDE, rounds)
    yield overhead(
        "the 2 convolutions of a SimpleCNN",
        SimpleCNN().eval(),
        batches,
        rounds,
        "A batch of 64 runs in some milliseconds. Three quarters of what is added are those of Moments, in some twenty "
        "operations of torch for each layer and piece of a batch, a quarter are those of Exemplars.",
    )
    yield overhead(
        "the 20 convolutions of ResNet-18 as for ImageNet, whose last maps are 1 x 1 here",
        resnet(),
        batches,
        rounds,
        "The forward takes a sixteenth of the time, a sweep does not. Moments sums values, squares and zeros in "
        "float64, and finds the extremes; var_mean by hand, in float32, costs as much without zeros and extremes. "
        "Exemplars orders each sample's maximum of each of 512 channels, though the maps have one unit.",
    )
    yield scaling(10 if quick else BATCHES)
    yield writing(1 if quick else 4)
    yield memory(10 if quick else 40)


def resnet(*, wide: bool = False) -> nn.Module:
    """Return ResNet-18 for ten classes, untrained: time does not depend on the weights; wide is usual for CIFAR."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=10).eval()
    if wide:
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def images(batches: int) -> torch.Tensor:
    """Return smooth images of CIFAR-10's size."""
    torch.manual_seed(0)
    return nn.functional.interpolate(torch.rand(BATCH * batches, 3, 8, 8), (32, 32), mode="bilinear")


def loop(model: nn.Module, data: torch.Tensor) -> None:
    """Run the same forward passes, and nothing else."""
    with torch.no_grad():
        for first in range(0, len(data), BATCH):
            model(data[first : first + BATCH])


def by_hand(model: nn.Module, data: torch.Tensor) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Compute each batch's variances and means by hand, channel by channel, still to be merged."""
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, output: found.setdefault(name, []).append(torch.var_mean(output, dim=(0, 2, 3)))

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(hook(name)) for name, module in layers]
    loop(model, data)
    for handle in handles:
        handle.remove()
    return found


def overhead(layers: str, model: nn.Module, batches: int, rounds: int, bound: str = "") -> Table:
    """Return the time of a sweep over all convolutions, with each reducer and both, over the loop."""
    data = images(batches)
    sweeping = partial(sp.sweep, model, data, batch_size=BATCH, progress=False)
    chosen = {"Moments and Exemplars": REDUCERS} | {one.__name__: {"": one} for one in REDUCERS.values()}
    contestants: dict[str, Callable[[], object]] = {
        name: partial(sweeping, reducers) for name, reducers in chosen.items()
    }
    contestants["hook: var_mean() of each batch, by hand"] = partial(by_hand, model, data)
    figures = paired(lambda: loop(model, data), contestants, rounds)
    title = f"sweep over {layers}, {BATCH * batches} images of 32 x 32"
    return Table(title, "times the same loop without it", tuple(figures), bound=bound)


def scaling(batches: int) -> Table:
    """Return samples a second of two processes over those of one, each timed inside its own run."""
    cores = len(os.sched_getaffinity(0))
    plain = throughput("the plain loop, each process over its half", 2, batches, "nothing else", task="loop")
    return Table(
        f"sweep under torchrun, {BATCH * batches} images",
        "times the throughput of one process",
        (throughput("two processes", 2, batches, f"on {cores} cores"), plain),
        bound="Two processes share caches, memory and clock rate: the plain loop, which sends nothing, shows what that "
        "leaves. A sweep adds what does not grow with the images: checksums of weights and data, by "
        "which the processes compare themselves before the first batch, and the merged results, which every "
        "process reads with torch's restricted unpickler.",
    )


def throughput(name: str, processes: int, batches: int, remark: str = "", task: str = "sweep") -> Figure:
    """Return the throughput of several processes over that of one, at a sweep or a plain loop, in three turns."""
    ratios = [seconds_with(1, batches, task) / seconds_with(processes, batches, task) for _ in range(3)]
    return Figure.of(name, ratios, remark)


def seconds_with(processes: int, batches: int, task: str = "sweep") -> float:
    """Return the seconds that several processes take for one task, without starting up."""
    child = subprocess.run(
        [*TORCHRUN, str(processes), __file__, task, str(batches)],
        stdout=subprocess.PIPE,
        env=environment(),
        check=True,
    )
    return float(json.loads(child.stdout.splitlines()[-1]))


def writing(batches: int) -> Table:
    """Return the wall time that `store=` adds to a sweep, over `numpy.save` of the same activations."""
    model, data = resnet(wide=True), images(batches)
    sweeping = partial(sp.sweep, model, data, {"dead": sp.Dead}, at="post_activation", batch_size=BATCH, progress=False)
    with torch.no_grad():
        kept = [sp.capture(model, batch, at="post_activation").records for batch in data.split(BATCH)]
    parts = [record.numpy() for records in kept for record in records]
    ratios, stored = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(5):
            start = time.perf_counter()
            for number, part in enumerate(parts):
                np.save(Path(folder, f"{number}.npy"), part)
            saved = time.perf_counter()
            sweeping()
            swept = time.perf_counter()
            sweeping(store=Path(folder, f"{round_}.zarr"))
            ratios.append(((time.perf_counter() - swept) - (swept - saved)) / (saved - start))
            stored = sum(file.stat().st_size for file in Path(folder, f"{round_}.zarr").rglob("*") if file.is_file())
            shutil.rmtree(Path(folder, f"{round_}.zarr"))
    whole = sum(part.nbytes for part in parts)
    figure = Figure.of("Zarr 3, zstd 1, bit-shuffled", ratios, f"{stored / whole:.2f} of the bytes")
    return Table(
        f"store= of {whole >> 20} MiB of activations of ResNet-18 after their ReLUs",
        "times numpy.save, what the sweep without it takes left out",
        (figure,),
        bound="A thread compresses and writes while the model computes: with a core to spare, its time is hidden.",
        last="size",
    )


def memory(batches: int) -> Table:
    """Return the peak memory of a process with ten times the data over that with the data once."""
    peaks = []
    for times in (1, 10):
        command = [sys.executable, __file__, "memory", str(batches * times)]
        child = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), check=True)
        peaks.append(json.loads(child.stdout.splitlines()[-1]))
    ratio = peaks[1] / peaks[0]
    return Table(
        f"peak memory of a sweep over {BATCH * batches} and over ten times as many images",
        "times the peak with the data once",
        (Figure("Moments and Exemplars", ratio, ratio, ratio, f"{peaks[0] >> 10} MiB at once"),),
    )


def environment() -> dict[str, str]:
    """Return an environment of one thread a process, with this folder's modules."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


class Drawn(torch.utils.data.Dataset[torch.Tensor]):
    """A data set of images that are drawn when they are read, so that it takes no memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))


def child(task: str, batches: int) -> None:
    """Print what a child process measures: the seconds of a sweep or of the plain loop, or its peak memory in KiB."""
    torch.set_num_threads(1)
    model = resnet()
    if task == "memory":
        sp.sweep(model, Drawn(BATCH * batches), REDUCERS, batch_size=BATCH, progress=False)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        return
    data = images(batches)
    seconds = _time_loop(model, data) if task == "loop" else _time_sweep(model, data)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(seconds))


def _time_sweep(model: nn.Module, data: torch.Tensor) -> float:
    """Return the seconds of this process's sweep, which ends when all processes have merged."""
    sp.sweep(model, data[: 2 * BATCH], REDUCERS, batch_size=BATCH, progress=False)
    start = time.perf_counter()
    sp.sweep(model, data, REDUCERS, batch_size=BATCH, progress=False)
    return time.perf_counter() - start


def _time_loop(model: nn.Module, data: torch.Tensor) -> float:
    """Return the seconds from when all processes begin until all have run the model on their shares."""
    torch.distributed.init_process_group("gloo")
    share = data.tensor_split(torch.distributed.get_world_size())[torch.distributed.get_rank()]
    loop(model, share[: 2 * BATCH])
    torch.distributed.barrier()
    start = time.perf_counter()
    loop(model, share)
    torch.distributed.barrier()
    seconds = time.perf_counter() - start
    torch.distributed.destroy_process_group()
    return seconds


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
