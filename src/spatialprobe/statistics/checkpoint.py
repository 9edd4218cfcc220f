"""Checkpoints of a sweep's progress, written atomically, from which a killed sweep continues."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spatialprobe.errors import StorageError
from spatialprobe.statistics.batches import Progress
from spatialprobe.statistics.distributed import Form
from spatialprobe.storage.checksum import digest
from spatialprobe.storage.files import describe_os_error, target_of, write_bytes
from spatialprobe.text import format_count

_MAGIC = "spatialprobe sweep"
_VERSION = 2
_NAMES_SHOWN = 6
_PARTS = {
    "model": "the model's weights or structure",
    "code": "the code of the model's classes, or of what they use",
    "hooks": "the forward hooks or edits on the model",
    "device": "the kind of device",
    "dtype": "torch's default dtype",
    "autocast": "autocast",
    "precision": "the precision of matrix products",
    "data": "the data",
    "layers": "the layers",
    "at": "at=",
    "layout": "layout=",
    "forward": "forward=",
    "nonfinite": "nonfinite=",
    "stop_early": "stop_early=",
    "reducers": "the reducers or their parameters",
    "processes": "the number of processes, or this one's rank",
    "store": "store=",
    "others": "the other models, or their layers",
    "batch_size": "batch_size=",
    "seed": "seed=",
}


@dataclass(frozen=True)
class Saved:
    """The contents of a checkpoint."""

    state: Any
    progress: Progress
    finished: bool  # whether the sweep has taken all the data
    stored: list[str]  # the groups of store= that the sweep had written to


class Checkpoint:
    """The checkpoint file of one process.

    The file is a line with a checksum of the rest, a line of JSON, and the state of the reducers. The state is read
    only after the checksum and the identity of model, data, layers and reducers have been compared, and it can name
    only classes and functions of the reducers.
    """

    def __init__(self, path: Path, seconds: float, identity: Mapping[str, Any], form: Form) -> None:
        self.path = path
        self._seconds = seconds
        self._identity = json.loads(json.dumps(identity))  # in the form in which it will be read
        self._form = form
        self._saved = time.monotonic()
        self.written: Progress | None = None  # the progress that the file holds
        self.usable = True  # whether the state is consistent and may be written

    def load(self) -> Saved | None:
        """Return the contents of the file, None if there is no file.

        Raises:
            StorageError: the file is damaged, of another kind or version, or of another sweep, or it names a class or
                function that its reducers do not use.
        """
        if not self.path.exists():
            return None
        try:
            head, _, rest = self.path.read_bytes().partition(b"\n")
        except OSError as error:
            raise StorageError(f"Cannot read the checkpoint {str(self.path)!r}: {describe_os_error(error)}.") from error
        described, payload = _split(self.path, head, rest)
        progress, finished, stored = _parse_progress(self.path, described)
        other = self._differences(described.get("identity"))
        if other and not progress.batches:
            return None  # the other sweep had done nothing yet, so nothing is lost by replacing its file
        if other:
            raise StorageError(
                f"The checkpoint {str(self.path)!r} is of another sweep: different are {', '.join(other)}. Delete it "
                "to start again, or pass another checkpoint= path."
            )
        try:
            state = self._form.loads(payload)
        except StorageError as error:
            raise StorageError(
                f"The checkpoint {str(self.path)!r} {error}. It was not written by a sweep with these reducers as "
                "they are now: delete it to start again, and do not trust its origin."
            ) from error
        self.written = progress
        return Saved(state, progress, finished, stored)

    def is_due(self) -> bool:
        """Return whether it is time to write the file again."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, state: Any, progress: Progress, *, finished: bool = False, stored: Sequence[str] = ()) -> None:
        """Write the file atomically.

        An exception in here, an interrupt too, may leave the state inconsistent, since reducers may change while they
        are written: `usable` is false from then on.

        Raises:
            SweepError: a reducer cannot be written.
            StorageError: the file cannot be written; the message says what it still holds.
        """
        self.usable = False
        described = {
            "identity": self._identity,
            "progress": asdict(progress),
            "finished": finished,
            "stored": list(stored),
        }
        rest = json.dumps(described).encode() + b"\n" + self._form.dumps(state)
        try:
            write_bytes(self.path, f"{_MAGIC} {_VERSION} {digest(rest)}\n".encode() + rest)
        except StorageError as error:
            raise StorageError(f"{error} {self._describe_written(progress)}") from error
        self._saved, self.written, self.usable = time.monotonic(), progress, True

    def _describe_written(self, now: Progress) -> str:
        """Return a sentence on what the file holds when writing newer progress to it has failed."""
        if self.written is None:
            return "Nothing was swept: pass another checkpoint= path, or free disk space."
        return (
            f"The file holds the state after {format_count(self.written.samples, 'sample')}, of {now.samples} that "
            "were swept: free disk space, and the same sweep continues from there."
        )

    def _differences(self, theirs: Any) -> list[str]:
        """Return descriptions of how the sweep of a file differs from this one."""
        found = theirs if isinstance(theirs, dict) else {}
        other = [words for part, words in _PARTS.items() if found.get(part) != self._identity.get(part)]
        if _PARTS["model"] in other:  # the other differences follow from it
            other = [words for words in other if words != _PARTS["code"]]
        else:
            other += _differing_attributes(found.get("attributes"), self._identity["attributes"])
        return other


def _differing_attributes(theirs: Any, mine: Mapping[str, str]) -> list[str]:
    """Return a description of the plain attributes of the model's modules that differ."""
    found = theirs if isinstance(theirs, dict) else {}
    names = [repr(name) for name in sorted({*found, *mine}) if found.get(name) != mine.get(name)]
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return [f"the attributes {', '.join(names[:_NAMES_SHOWN])}{more} of modules"] if names else []


def checkpoint_path(path: str | os.PathLike[str], rank: int) -> Path:
    """Return the path of one process's file: `path` itself for rank 0, `path.rank1` and so on for the others.

    Raises:
        ArgumentError: no file can be written there.
    """
    chosen = target_of(path)
    return target_of(chosen.with_name(f"{chosen.name}.rank{rank}")) if rank else chosen


def _split(path: Path, head: bytes, rest: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the description and the state in a file, after its checksum has been compared."""
    words = head.decode(errors="replace").split(" ")
    if words[:2] != _MAGIC.split():
        raise StorageError(
            f"{str(path)!r} is not a checkpoint of a sweep, or is damaged. Delete it, or pass another path."
        )
    if words[2:3] != [str(_VERSION)]:
        raise StorageError(
            f"{str(path)!r} has format {words[2:3]}, not {_VERSION}: it was written by another version of "
            "spatialprobe. Delete it to start again."
        )
    if words[3:] != [digest(rest)]:
        raise StorageError(f"The checkpoint {str(path)!r} is damaged: its checksum is wrong. Delete it to start again.")
    line, _, payload = rest.partition(b"\n")
    try:
        described = json.loads(line)
    except ValueError as error:
        raise _foreign_error(path) from error
    if not isinstance(described, dict):
        raise _foreign_error(path)
    return described, payload


def _parse_progress(path: Path, described: Mapping[str, Any]) -> tuple[Progress, bool, list[str]]:
    """Return a sweep's progress, whether it had finished, and the groups of a store that it had written to."""
    found, finished, stored = (described.get(name) for name in ("progress", "finished", "stored"))
    kinds = {"samples": int, "batches": int, "trail": str}
    if (
        not isinstance(found, dict)
        or {name: type(value) for name, value in found.items()} != kinds
        or min(found["samples"], found["batches"]) < 0
        or not isinstance(finished, bool)
        or not isinstance(stored, list)
        or not all(isinstance(name, str) for name in stored)
    ):
        raise _foreign_error(path)
    return Progress(**found), finished, stored


def _foreign_error(path: Path) -> StorageError:
    return StorageError(f"The checkpoint {str(path)!r} was not written by a sweep. Delete it to start again.")
