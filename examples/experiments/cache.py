"""Results on disk, each in a file of its own, known by the whole configuration that led to it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from data import ImageData
from experiments.trials import Trained, Trial
from training import Score

import spatialprobe as sp

FORMAT = 1  # one more whenever the same configuration would lead to other results


class Cache:
    """The results of one configuration of data and training, in a folder that may hold those of others too."""

    def __init__(self, folder: Path, data: ImageData, *, epochs: int, batches: int | None, device: str) -> None:
        self._folder = folder
        self._about = {
            "format": FORMAT,
            "data": data.name,
            "images": _digest(data),
            "epochs": epochs,
            "batches": batches,
            "device": device,
            "torch": torch.__version__,
            "spatialprobe": sp.__version__,
        }

    def path(self, what: str, **more: Any) -> Path:
        """Where a result lies: its name says what it is, and its end which configuration led to it."""
        about = json.dumps({**self._about, "what": what, **more}, sort_keys=True)
        name = "".join(letter if letter.isalnum() else "-" for letter in what)
        return self._folder / f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"

    def trained(self, trial: Trial) -> Trained | None:
        """What a trial came to, if it has been run; a damaged file counts as none."""
        try:
            found = torch.load(self.path(str(trial)).with_suffix(".pt"), weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return Trained(found["state"], tuple(Score(**one) for one in found["train"]), Score(**found["test"]))

    def keep_trained(self, trial: Trial, trained: Trained) -> None:
        """Write what a trial came to."""
        target = self.path(str(trial)).with_suffix(".pt")
        content = {
            "state": dict(trained.state),
            "train": [asdict(score) for score in trained.train],
            "test": asdict(trained.test),
        }
        scratch = self._scratch(target)
        torch.save(content, scratch)
        os.replace(scratch, target)

    def numbers(self, what: str, **more: Any) -> Mapping[str, Any] | None:
        """Measurements that were kept."""
        try:
            found: Mapping[str, Any] = json.loads(self.path(what, **more).with_suffix(".json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def keep_numbers(self, what: str, numbers: Mapping[str, Any], **more: Any) -> None:
        """Write measurements."""
        target = self.path(what, **more).with_suffix(".json")
        scratch = self._scratch(target)
        scratch.write_text(json.dumps(numbers), encoding="utf-8")
        os.replace(scratch, target)

    def _scratch(self, target: Path) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return target.with_suffix(f".{os.getpid()}")


def _digest(data: ImageData) -> str:
    """A checksum of all images and labels, and of what the classes are called."""
    whole = hashlib.sha256(repr(data.classes).encode())
    for tensor in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        whole.update(repr(tuple(tensor.shape)).encode())
        whole.update(tensor.contiguous().numpy().data)
    return whole.hexdigest()
