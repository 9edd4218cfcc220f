"""Results on disk, each in a file of its own, identified by the whole configuration that led to it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from data import ImageData
from experiments.trials import Trained, Trial
from experiments.workers import Job, Procedure
from training import Score

import spatialprobe as sp

FORMAT = 3  # one more whenever the same configuration would lead to other networks
MEASURES = 2  # one more whenever other things are measured of the same networks


class Cache:
    """The results of one configuration of data and training, in a folder that may hold those of others too."""

    def __init__(self, folder: Path, data: ImageData, procedure: Procedure) -> None:
        self._folder = folder
        self._about = {
            "format": FORMAT,
            "data": data.name,
            "images": _digest(data),
            **asdict(procedure),
            "torch": torch.__version__,
            "spatialprobe": sp.__version__,
        }

    def path(self, job: Job) -> Path:
        """Return the path of a job's result: its name identifies the job, and its end the configuration."""
        measures = {} if isinstance(job, Trial) else {"measures": MEASURES}
        about = json.dumps({**self._about, **measures, "job": repr(job)}, sort_keys=True)
        name = "".join(letter if letter.isalnum() else "-" for letter in str(job))
        return self._folder / f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.pt"

    def get(self, job: Job) -> Any:
        """Return a job's result, if there is one; a damaged file counts as none."""
        try:
            found = torch.load(self.path(job), weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        if not isinstance(job, Trial):
            return found
        return Trained(found["state"], tuple(Score(**one) for one in found["train"]), Score(**found["test"]))

    def keep(self, job: Job, result: Any) -> None:
        """Write a job's result atomically."""
        if isinstance(result, Trained):
            train = [asdict(score) for score in result.train]
            result = {"state": dict(result.state), "train": train, "test": asdict(result.test)}
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self.path(job)
        scratch = target.with_suffix(f".{os.getpid()}")
        torch.save(result, scratch)
        os.replace(scratch, target)


def _digest(data: ImageData) -> str:
    """Return a checksum of all images and labels, and of the class names."""
    whole = hashlib.sha256(repr(data.classes).encode())
    for tensor in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        whole.update(repr(tuple(tensor.shape)).encode())
        whole.update(tensor.contiguous().numpy().data)
    return whole.hexdigest()
