"""What capturing costs, as ratios to the bare forward pass, measured in pairs in one run.

    python examples/benchmark.py              all models, memory as the allocator comes and already mapped
    python examples/benchmark.py --quick      the SimpleCNN only

One thread, `no_grad`. Every round runs each contestant once, in turn; a figure is the median over the rounds of the
contestant's time over that of the bare forward in the same round, with its quartiles. Most of what keeping tensors
costs is page faults of new memory: so each model is measured in a process where the allocator gives memory back to
the system ("as it comes"), and in one where it holds on to it ("mapped").
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from simple_cnn import SimpleCNN
from torch import nn

import spatialprobe as sp

MODELS = {
    "SimpleCNN, batch 4": ((4, 3, 32, 32), 3000),  # input shape, rounds
    "SimpleCNN, batch 256": ((256, 3, 32, 32), 150),
    "ResNet-50, batch 2": ((2, 3, 224, 224), 25),
}
MEMORY = {
    "as it comes": {},
    "mapped": {"MALLOC_TOP_PAD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0"},
}


def main() -> int:
    """Print one table; in a child process, the figures of one model as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the SimpleCNN at batch 4 only")
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child)))
        return 0
    print(f"torch {torch.__version__}, one thread, no_grad: median time over the bare forward [quartiles]")
    for model in list(MODELS)[:1] if options.quick else MODELS:
        for memory, variables in MEMORY.items():
            command = [sys.executable, __file__, "--child", model]
            child = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, check=True)
            print(f"\n{model}, memory {memory}")
            for name, (low, median, high) in json.loads(child.stdout).items():
                print(f"  {name:34} {median:5.2f}  [{low:.2f}, {high:.2f}]")
    return 0


def measured(name: str) -> dict[str, list[float]]:
    """For each contestant the quartiles of its time over that of the bare forward."""
    torch.set_num_threads(1)
    shape, rounds = MODELS[name]
    model = network(name).eval()
    images = torch.rand(shape)
    contestants = {"bare forward": lambda: model(images), **contenders(model, images)}
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    with torch.no_grad():
        for number in range(rounds + 3):
            for contestant, run in contestants.items():
                start = time.perf_counter()
                run()
                if number >= 3:  # the first rounds warm up, and let the probe learn
                    times[contestant].append(time.perf_counter() - start)
    bare = np.array(times.pop("bare forward"))
    return {key: np.percentile(np.array(value) / bare, [25, 50, 75]).tolist() for key, value in times.items()}


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


if __name__ == "__main__":
    sys.exit(main())
