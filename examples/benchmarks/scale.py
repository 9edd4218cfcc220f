"""A sweep over a million small images on two processes: whether memory, checkpoints and speed stay as they begin.

The images are generated as they are read. The first process notes, at each tenth of its share, how many images it has
read a second since the last note, the memory that it takes, and the size of its checkpoint, which is written once a
second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.method import Figure, Table
from benchmarks.sweep import BATCH, REDUCERS, TORCHRUN, environment
from simple_cnn import SimpleCNN

import spatialprobe as sp

IMAGES, QUICK, TENTHS = 1_000_000, 20_000, 10
BOUND = "Nothing is kept of an image but what it adds to the statistics: the last tenth costs what the second does."


def measure(quick: bool) -> Iterator[Table]:
    """Yield how speed, memory and checkpoints go on, relative to the second tenth: the first begins cold."""
    count = QUICK if quick else IMAGES
    with tempfile.TemporaryDirectory() as folder:
        command = [*TORCHRUN, "2", __file__, str(count), str(Path(folder, "sweep.state"))]
        child = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), check=True)
    notes = json.loads(child.stdout.splitlines()[-1])
    for unit, title in {
        "images a second": "speed",
        "MiB": "memory of a process",
        "kB": "the size of its checkpoint",
    }.items():
        first = notes[0][unit]
        figures = [Figure.of(f"{note['at']:,}", [note[unit] / first], f"{note[unit]:,.0f} {unit}") for note in notes]
        yield Table(
            f"sweep of {count:,} images on two processes: {title}",
            "times that of the second tenth",
            tuple(figures),
            bound=BOUND,
            last="value",
        )


class Generated(torch.utils.data.Dataset[torch.Tensor]):
    """Images that are generated as they are read; notes are taken at each tenth of the first process's share."""

    def __init__(self, count: int, checkpoint: Path) -> None:
        self.notes: list[dict[str, float]] = []
        self._count = count
        self._checkpoint = checkpoint
        self._step = count // 2 // TENTHS
        self._last = time.perf_counter()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> torch.Tensor:
        if 0 < index < self._count // 2 and index % self._step == 0:  # in the first share
            self._note(index)
        return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))

    def _note(self, index: int) -> None:
        now = time.perf_counter()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.notes.append(
            {
                "at": index,
                "images a second": self._step / (now - self._last),
                "MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
                "kB": self._checkpoint.stat().st_size / 1000,
            }
        )
        self._last = now


def child(count: int, checkpoint: str) -> None:
    """Sweep this process's share; the first prints its notes but the first, when torch had just begun."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = Generated(count, Path(checkpoint))
    sp.sweep(
        SimpleCNN().eval(),
        data,
        REDUCERS,
        batch_size=BATCH,
        checkpoint=checkpoint,
        checkpoint_seconds=1,
        progress=False,
    )
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(data.notes[1:]))


if __name__ == "__main__":
    child(int(sys.argv[1]), sys.argv[2])
