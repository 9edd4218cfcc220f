"""The cost of records on disk relative to a plain file of the same tensors.

`save_activations` writes all metadata and a checksum of each tensor, and the file appears whole or not at all;
`load_activations` maps the file, and checks every byte of a tensor when it is first used. The plain yardsticks do
neither; two more add to numpy's what it leaves out.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.method import Table, paired
from safetensors.torch import load_file, save_file
from torch import nn

import spatialprobe as sp

BOUND = (
    "A second thread computes SHA-256 of each tensor while the first writes it, and the file is synced before it takes "
    "its name: without a second core the checksum is waited for. numpy.savez, torch.save and safetensors sync nothing; "
    "the rows by hand add to numpy.savez what they leave out."
)


def measure(quick: bool) -> Iterator[Table]:
    """Yield the times to write, then read, the outputs of all convolutions of a VGG-like stack for one batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 32, 32, 3, padding=1) for i in range(2 if quick else 8)])
    with torch.no_grad(), sp.Probe(model, copy="always") as probe:
        model(torch.rand(4, 3, 112, 112))
    tensors = {record.layer: record.tensor for record in probe.records}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    size = sum(array.nbytes for array in arrays.values()) >> 20
    rounds = 5 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        path = {name: Path(folder, name) for name in ("ours", "numpy.npz", "torch", "safetensors", "synced")}
        writing = {
            "save_activations": lambda: sp.save_activations(path["ours"], probe),
            "torch.save": lambda: torch.save(tensors, path["torch"]),
            "safetensors": lambda: save_file(tensors, path["safetensors"]),
            "numpy.savez and a sync, by hand": lambda: _save_synced(path["synced"], arrays),
            "numpy.savez, a sync and SHA-256, by hand": lambda: _save_synced(path["synced"], arrays, checksums=True),
        }
        figures = paired(lambda: np.savez(path["numpy.npz"], allow_pickle=False, **arrays), writing, rounds)
        yield Table(f"writing {size} MiB of activations", "times numpy.savez", tuple(figures), bound=BOUND)
        for write in writing.values():  # all of them, once more
            write()
        reading = {
            "load_activations": lambda: sp.load_activations(path["ours"]),
            "load_activations, all values": lambda: [
                record.tensor for record in sp.load_activations(path["ours"]).records
            ],
            "torch.load": lambda: torch.load(path["torch"]),
            "safetensors": lambda: load_file(path["safetensors"]),
        }
        figures = paired(lambda: dict(np.load(path["numpy.npz"])), reading, rounds)
        yield Table(f"reading {size} MiB of activations", "times numpy.load", tuple(figures))


def _save_synced(path: Path, arrays: dict[str, np.ndarray[Any, Any]], *, checksums: bool = False) -> list[str]:
    """Write arrays, wait until they are on the disk, and return their checksums if asked for."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    return [hashlib.sha256(array.data).hexdigest() for array in arrays.values()] if checksums else []
