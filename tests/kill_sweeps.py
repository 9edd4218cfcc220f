"""Interrupt and kill sweeps repeatedly by real signals, and check that each ends with the uninterrupted result.

    python tests/kill_sweeps.py --interrupts 500 --kills 500

Every sweep writes its checkpoint after each batch, is ended by a signal at a random moment, and started again, until it
finishes. Killed sweeps continue in a new process; interrupted ones alternate between a new process and the same one
with the same model. A result that differs in any bit counts as wrong; a sweep that does not continue, for whatever
reason, counts as refused.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from interrupts import interrupted, points_of
from sweeps import REDUCERS, Numbered, images, small_model
from torch.utils.data import DataLoader

import spatialprobe as sp

COUNT, BATCH, SECONDS = 48, 4, 0.002  # samples, batch size, and the time of each sample
KINDS = ("data set", "tensor", "loader", "iterable", "stored data set", "stored iterable")


class Emptied:
    """A reducer that modifies its state while it is pickled, which reducers should avoid."""

    def __init__(self):
        self.total, self.waiting = 0.0, []

    def update(self, activation, samples):
        self.waiting.append(activation.double().flatten(2).sum((0, 2)))

    def merge(self, other):
        self.waiting += [other.total, *other.waiting]

    def result(self):
        return {"total": sum(self.waiting, self.total)}

    def __getstate__(self):
        waiting, self.waiting = self.waiting, []
        for part in waiting:
            self.total = self.total + part
        return self.__dict__


def sweeping(kind, folder, **options):
    """Return the results of a sweep over one kind of data, as plain values."""
    data = {
        "tensor": lambda: images(COUNT),
        "loader": lambda: DataLoader(Numbered(COUNT, seconds=SECONDS), BATCH),
        "iterable": lambda: iterable(),
    }.get(kind.removeprefix("stored "), lambda: Numbered(COUNT, seconds=SECONDS))()
    if kind.startswith("stored"):
        options["store"] = folder / "acts.zarr"
    reducers = REDUCERS | {"emptied": Emptied}
    result = sp.sweep(
        options.pop("model", None) or small_model(), data, reducers, batch_size=BATCH, progress=False, **options
    )
    return {(layer, name): plain(value) for layer in result for name, value in result[layer].items()}


def iterable():
    """Yield batches of several sizes."""
    data, sizes = Numbered(COUNT, seconds=SECONDS), itertools.cycle((3, BATCH, 1))
    start = 0
    while start < COUNT:
        stop = min(COUNT, start + next(sizes))
        yield torch.stack([data[i][0] for i in range(start, stop)])
        start = stop


def plain(result):
    """Return a reducer's result as bytes that can be compared."""
    parts = result if isinstance(result, dict) else vars(result)
    return {
        name: value.numpy().tobytes() if isinstance(value, torch.Tensor) else value for name, value in parts.items()
    }


@dataclass
class Tally:
    """The outcomes of many sweeps."""

    landed: Counter = field(default_factory=Counter)  # signals that arrived while a sweep was running
    sweeps: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __str__(self):
        signals = ", ".join(f"{count} by {name}" for name, count in sorted(self.landed.items()))
        return f"{signals}; {self.sweeps} sweeps: {len(self.wrong)} wrong, {len(self.refused)} refused"


def stop_again_and_again(kind, number, same_process, folder, draw, tally, expected, most):
    """Run one sweep, ended by a signal until it finishes or `most` signals have landed, and count its outcome."""
    options = {"checkpoint": folder / "state", "checkpoint_seconds": 0, "model": small_model()}
    call, patience = partial(sweeping, kind, folder, **options), 1.0
    while sum(tally.landed.values()) < most:
        landed, ended = stopped(call, number, same_process, partial(moments, draw, patience), folder)
        tally.landed[number.name] += landed
        patience = min(16.0, 1.1 * patience)
        if ended is not None:
            break
    found = in_child(call, folder)
    tally.sweeps += 1
    if isinstance(found, str):
        tally.refused.append(f"{kind}, {number.name}: {found}")
    elif found != expected or (kind.startswith("stored") and in_child(partial(stored, folder), folder) is not True):
        tally.wrong.append(f"{kind}, {number.name}")


def moments(draw, patience):
    """Yield random waits in seconds, which increase, since a busy machine needs longer to make progress."""
    while True:
        yield patience * draw.uniform(0.0, 0.15)
        patience = min(16.0, 1.1 * patience)


def stopped(call, number, same_process, waits, folder):
    """Send signals to a child that runs `call`; return how many landed, and its exit status, None if ended by one."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        repeat(call, writes if same_process and number == signal.SIGINT else None)
    os.close(writes)
    for wait in waits():
        time.sleep(wait)
        os.kill(child, number)
        if number == signal.SIGKILL or not same_process:
            break
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reads, "rb") as pipe:
        landed = len(pipe.read())
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == INTERRUPTED:
        return landed + 1, None
    return landed, os.WEXITSTATUS(status)


INTERRUPTED = 3


def repeat(call, pipe):
    """Call until it returns, then end the process; without a pipe to count interrupts, end it after the first one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while True:
        try:
            try:
                call()
                os._exit(0)
            except KeyboardInterrupt:
                if pipe is None:
                    os._exit(INTERRUPTED)
                os.write(pipe, b".")
            except BaseException:
                os._exit(1)  # the error is reported when it is called again without signals
        except KeyboardInterrupt:  # a second interrupt, before the first was handled
            continue


def in_child(call, folder):
    """Return the value of a call in a process of its own, or the traceback of the exception it raises."""
    child = os.fork()
    if not child:
        try:
            found = call()
        except BaseException:
            found = traceback.format_exc()
        (folder / "outcome").write_bytes(pickle.dumps(found))
        os._exit(0)
    os.waitpid(child, 0)
    return pickle.loads((folder / "outcome").read_bytes())


def stored(folder):
    """Return whether the store holds every activation in the row of its sample."""
    import zarr

    group = zarr.open_group(folder / "acts.zarr", mode="r")
    with torch.no_grad():
        expected = small_model().eval()[:1](images(COUNT)).numpy()
    in_order = group["0"]["sample"][:].tolist() == list(range(COUNT))
    return in_order and bool(np.allclose(group["0"]["activation"][:], expected, atol=1e-6))


def stop_sweeps(number, most, seed, same_process=(False, True), kinds=KINDS):
    """End sweeps by one kind of signal until `most` have landed, and return the tally."""
    draw, tally, expected = random.Random(seed), Tally(), {}
    with tempfile.TemporaryDirectory() as base:
        turn = 0
        while sum(tally.landed.values()) < most:
            kind = kinds[turn % len(kinds)]
            folder = Path(base, str(turn))
            folder.mkdir()
            if kind not in expected:
                expected[kind] = in_child(partial(sweeping, kind.removeprefix("stored "), folder), folder)
            same = same_process[turn // len(kinds) % len(same_process)]
            stop_again_and_again(kind, number, same, folder, draw, tally, expected[kind], most)
            turn += 1
    return tally


def interrupt_at_points(kind, most, seed):
    """Interrupt sweeps at random points of this library's code, continue each, and return the tally."""
    draw, tally, model = random.Random(seed), Tally(), small_model()
    with tempfile.TemporaryDirectory() as base:
        expected = sweeping(kind, Path(base))
        path = Path(base, "state")
        call = partial(sweeping, kind, Path(base), checkpoint=path, checkpoint_seconds=0, model=model)
        points = points_of(call, within="spatialprobe")
        for point in draw.sample(points, most):
            path.unlink(missing_ok=True)
            tally.landed["points"] += interrupted(call, point) is not None
            tally.sweeps += 1
            try:
                if call() != expected:
                    tally.wrong.append(f"{kind}, {point}")
            except Exception:
                tally.refused.append(f"{kind}, {point}: {traceback.format_exc()}")
    return tally


def main():
    """Run, print the tallies, and return 1 if anything was wrong or refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interrupts", type=int, default=500)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--points", type=int, default=0, help="interrupt at so many points of the code, too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.nice(10)
    torch.set_num_threads(1)
    bad = []
    ways = [
        partial(stop_sweeps, signal.SIGINT, options.interrupts, options.seed),
        partial(stop_sweeps, signal.SIGKILL, options.kills, options.seed),
    ]
    if options.points:
        ways += [
            partial(interrupt_at_points, kind, options.points // 2, options.seed) for kind in ("tensor", "iterable")
        ]
    for way in ways:
        start = time.monotonic()
        tally = way()
        sys.stdout.write(f"{tally} ({time.monotonic() - start:.0f} s)\n")
        sys.stdout.flush()
        bad += tally.wrong + tally.refused
    sys.stdout.writelines(f"{one}\n" for one in bad)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
