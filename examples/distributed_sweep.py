"""A sweep over a data set by several processes, each with its share, on one or several machines.

    torchrun --standalone --nproc-per-node 2 examples/distributed_sweep.py

Every process runs this file. They meet inside `sp.sweep`, which shares out the data, merges what the processes found,
and gives all of them the same result; there is nothing else to do. Started with plain `python` it is one process's
sweep. With `--checkpoint FILE` a run that was killed continues when it is started again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from data import load
from simple_cnn import SimpleCNN
from training import as_input

import spatialprobe as sp


def main(arguments: list[str] | None = None) -> None:
    """Sweep a SimpleCNN's convolutions over the training images, and print a line about each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="patterns", help="patterns, cifar10 or folder:PATH")
    parser.add_argument("--limit", type=int, help="sweep at most so many images")
    parser.add_argument("--checkpoint", type=Path, help="a file from which a killed run continues")
    parser.add_argument("--out", type=Path, default=Path("sweep.safetensors"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)  # all processes must have the same model: one seed here, one file of weights elsewhere
    model = SimpleCNN()
    images = as_input(load(options.data, limit=options.limit).train_images, torch.device("cpu"))
    reducers: dict[str, Callable[[], sp.Reducer]] = {
        "moments": sp.Moments,
        "top": partial(sp.Exemplars, k=9),
        "dead": sp.Dead,
    }
    result = sp.sweep(model, images, reducers, at="post_activation", checkpoint=options.checkpoint)
    if os.environ.get("RANK", "0") == "0":
        result.save(options.out)
        print(f"{result.samples} samples -> {options.out}")
        for layer, found in result.items():
            mean, dead = found["moments"].mean.mean(), int(found["dead"].dead.sum())
            print(f"{layer}: mean {mean:.4f} after its ReLU, {dead} of {len(found['dead'].dead)} channels dead")


if __name__ == "__main__":
    main()
