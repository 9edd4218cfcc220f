"""How far a sweep has come, in a file that is always whole, so that a killed sweep continues."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spatialprobe.errors import ArgumentError, StorageError, told
from spatialprobe.statistics.batches import Progress
from spatialprobe.statistics.reducer import Reducer
from spatialprobe.storage.checksum import digest
from spatialprobe.storage.files import replacing, target_of

State = Mapping[str, Mapping[str, Reducer]]  # layer -> name -> reducer
_MAGIC = "spatialprobe sweep"
_VERSION = 1
_PARTS = {
    "model": "the model's weights or structure",
    "data": "the data",
    "layers": "the layers",
    "at": "at=",
    "nonfinite": "nonfinite=",
    "reducers": "the reducers or their parameters",
    "processes": "the number of processes, or this one's rank",
    "store": "store=",
}


class Checkpoint:
    """One process's file of progress.

    A line with a checksum of all that follows, a line of JSON, and the pickled reducers. They are unpickled only after
    the checksum, and the identity of model, data, layers and reducers, have been compared.
    """

    def __init__(self, path: Path, seconds: float, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._seconds = seconds
        self._identity = json.loads(json.dumps(identity))  # as it will be read
        self._saved = time.monotonic()

    def load(self) -> tuple[State, Progress, bool] | None:
        """The reducers, how far they have come, and whether that was all; None where there is no file.

        Raises:
            StorageError: the file is damaged, of another kind or version, or of another sweep.
        """
        if not self.path.exists():
            return None
        head, _, rest = self.path.read_bytes().partition(b"\n")
        described, payload = _opened(self.path, head, rest)
        self._check_identity(described["identity"])
        try:
            state: State = pickle.loads(payload)
        except Exception as error:
            raise StorageError(f"The reducers in {str(self.path)!r} cannot be unpickled: {told(error)}.") from error
        return state, Progress(**described["progress"]), described["finished"]

    def save_when_due(self, state: State, progress: Progress) -> None:
        """Write the file if the last time is long enough ago."""
        if time.monotonic() - self._saved >= self._seconds:
            self.save(state, progress)

    def save(self, state: State, progress: Progress, *, finished: bool = False) -> None:
        """Write the file, whole or not at all."""
        described = {"identity": self._identity, "progress": asdict(progress), "finished": finished}
        rest = json.dumps(described).encode() + b"\n" + pickle.dumps(state)
        # One name for the scratch file: a process that is killed while it writes leaves one, never many.
        with replacing(self.path, scratch=self.path.with_name(f".{self.path.name}.part")) as scratch:
            scratch.write_bytes(f"{_MAGIC} {_VERSION} {digest(rest)}\n".encode() + rest)
        self._saved = time.monotonic()

    def _check_identity(self, theirs: Mapping[str, Any]) -> None:
        other = [words for part, words in _PARTS.items() if theirs.get(part) != self._identity.get(part)]
        if other:
            raise StorageError(
                f"The checkpoint {str(self.path)!r} is of another sweep: different are {', '.join(other)}. Delete it "
                "to start afresh, or give another checkpoint= path."
            )


def checkpoint_path(path: str | os.PathLike[str], rank: int) -> Path:
    """The file of one process: exactly the path for the first, `path.rank1` and so on beside it.

    Raises:
        ArgumentError: the folder does not exist, or the path is one.
    """
    chosen = target_of(path)
    return chosen.with_name(f"{chosen.name}.rank{rank}") if rank else chosen


def check_picklable(name: str, reducer: Reducer) -> None:
    """That a reducer can be kept or sent.

    Raises:
        ArgumentError: it cannot.
    """
    try:
        pickle.dumps(reducer)
    except Exception as error:
        raise ArgumentError(
            f"Reducer {name!r} cannot be pickled ({told(error)}), which checkpoint= and torchrun need. Define its "
            "class at the top of a module, and let it hold no open files, generators or lambdas."
        ) from error


def _opened(path: Path, head: bytes, rest: bytes) -> tuple[dict[str, Any], bytes]:
    """The description and the pickled reducers of a file that is whole."""
    words = head.decode(errors="replace").split(" ")
    if words[:2] != _MAGIC.split():
        raise StorageError(
            f"{str(path)!r} is no checkpoint of a sweep, or is damaged. Delete it, or give another path."
        )
    if words[2:3] != [str(_VERSION)]:
        raise StorageError(f"{str(path)!r} has format {words[2:3]}, not {_VERSION}: it is of another spatialprobe.")
    if words[3:] != [digest(rest)]:
        raise StorageError(
            f"The checkpoint {str(path)!r} is damaged: its checksum is wrong. Delete it to start afresh."
        )
    line, _, payload = rest.partition(b"\n")
    described: dict[str, Any] = json.loads(line)
    return described, payload
