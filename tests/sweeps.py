"""Sweeps in several processes: functions that start and kill them, and small models and data for them.

Run as a script it reads requests, one JSON object a line: a file, the name of a function in it, a folder and a number
of processes. It calls `function(folder)` in each of them, with the environment that torchrun sets, and writes what it
returns or raises to `folder/rank.pickle`. All are forked after importing torch, which is the slow part.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import inspect
import json
import os
import pickle
import select
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import fields
from functools import cache, partial
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
    server, file = _server(), inspect.getfile(function)
    request = {
        "arguments": [file, function.__name__, str(folder), processes],
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
    }
    server.stdin.write(json.dumps(request).encode() + b"\n")
    leader = int(server.stdout.readline())
    try:
        if not select.select([server.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"{function.__name__} had not ended after {seconds} seconds")
    finally:
        _kill_session(leader)
        server.stdout.readline()  # it has ended
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(processes)]


@cache
def _server():
    """Return the process that forks for all tests of this one; it ends with it."""
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )

    def end():
        server.stdin.close()
        server.wait()
        server.stdout.close()

    atexit.register(end)
    return server


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


def _serve():
    """Fork a leader of a session for each request; answer with its process id, and once more when it has ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tests print is no answer
    # What the files of all tests import, and what torch imports for the first optimizer or dispatch mode.
    for module in ("hypothesis", "pytest", "torch._dynamo", "spatialprobe.statistics.sweep"):
        importlib.import_module(module)
    for line in sys.stdin:
        leader = os.fork()
        if not leader:
            os.setsid()
            _lead(**json.loads(line))
        print(leader, file=answers, flush=True)
        os.waitpid(leader, 0)
        print("ended", file=answers, flush=True)


def _lead(arguments, environment, cwd):
    """Carry out one request, and end this process."""
    try:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        _run_ranks(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _run_ranks(file, function, folder, processes):
    call, port = getattr(_imported(file), function), str(_free_port())
    children = []
    for rank in range(processes):
        children.append(os.fork())
        if children[-1]:
            continue
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": str(processes)}
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
    _serve()
