"""Sweeps in several processes: functions that start and kill them, and small models and data for them.

    python tests/sweeps.py file function folder processes

calls `function(folder)` of the file in this number of processes, with the environment that torchrun sets, and writes
what each returns or raises to `folder/rank.pickle`. They are forked after importing torch, which is the slow part.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import pickle
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

import spatialprobe as sp

REDUCERS = {
    "moments": sp.Moments,
    "histogram": partial(sp.Histogram, bins=8),
    "top": partial(sp.Exemplars, k=5),
    "covariance": sp.ChannelCovariance,
    "dead": sp.Dead,
}


class Numbered(Dataset):
    """A data set of images generated from their index, each with a label; loading may be slow or fail."""

    def __init__(self, count, *, shape=(3, 8, 8), seconds=0.0, broken=()):
        self.count, self.shape, self.seconds, self.broken = count, shape, seconds, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index in self.broken:
            raise OSError(f"image {index} is torn")
        time.sleep(self.seconds)
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(index)), index % 10


def small_model(seed=0):
    """Return a model of two convolutions, a batch norm that has seen data, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten())
        model.append(nn.Linear(5 * 4 * 4, 2))
        model(torch.randn(16, 3, 8, 8))  # updates the statistics of the batch norm
    return model


def images(count, shape=(3, 8, 8)):
    """Return the images of `Numbered` as one tensor."""
    return torch.stack([Numbered(count, shape=shape)[i][0] for i in range(count)])


def swept(data, **arguments):
    """Return the result of a sweep of the small model with all reducers."""
    return sp.sweep(small_model(), data, REDUCERS, **({"batch_size": 4, "progress": False} | arguments))


def flat(result):
    """Return the result of a sweep as plain values that can be compared and pickled."""
    return {
        (layer, name, field.name): value.numpy() if isinstance(value, torch.Tensor) else value
        for layer in result
        for name, reduced in result[layer].items()
        for field in fields(reduced)
        for value in [getattr(reduced, field.name)]
    } | {"samples": result.samples}


def together(function, folder, processes, *, seconds=60):
    """Return the outcome of a function in each of several processes with the environment of torchrun.

    The outcome is what the function returned, or the type and text of what it raised. After `seconds` all are killed.
    """
    file = inspect.getfile(function)
    command = [sys.executable, __file__, file, function.__name__, str(folder), str(processes)]
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)
    try:
        child.wait(seconds)
    finally:
        _kill_session(child.pid)
        child.wait()
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(processes)]


def outcome(call):
    """Return the value of a call, or the type and text of what it raises."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        return type(error).__name__, str(error)


def _kill_session(leader):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, 9)


def _free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def _imported(file):
    """Return a test module, imported under its bare name, so that its classes and functions can be pickled."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = sys.modules[Path(file).stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _main(file, function, folder, processes):
    call, port = getattr(_imported(file), function), str(_free_port())
    children = []
    for rank in range(int(processes)):
        children.append(os.fork())
        if children[-1]:
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": processes}
        torch.set_num_threads(1)
        found = outcome(lambda: call(Path(folder)))
        scratch = Path(folder, f"{rank}.part")
        scratch.write_bytes(pickle.dumps(found))
        scratch.rename(Path(folder, f"{rank}.pickle"))
        sys.stdout.flush()
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
