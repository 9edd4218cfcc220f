"""Files: where they are to be, and how they are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spatialprobe.arguments import shown
from spatialprobe.errors import ArgumentError, SpatialProbeError


def path_of(path: str | os.PathLike[str]) -> Path:
    """It as a path.

    Raises:
        ArgumentError: it is no path.

    >>> path_of(5)
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: path must be a name such as 'results/maps', or a pathlib.Path, not 5.
    """
    try:
        return Path(path)
    except TypeError as error:
        raise ArgumentError(
            f"path must be a name such as 'results/maps', or a pathlib.Path, not {shown(path)}."
        ) from error


def target_of(path: str | os.PathLike[str], error: type[SpatialProbeError] = ArgumentError) -> Path:
    """The path of a file that is to be written, in a folder that exists.

    Raises:
        ArgumentError: it is no path.
        SpatialProbeError: of the kind given: the folder does not exist, or the path is one.
    """
    target = path_of(path)
    if not target.parent.is_dir():
        raise error(f"Cannot write {target.name!r}: the folder {str(target.parent)!r} does not exist. Create it first.")
    if target.is_dir():
        raise error(f"Cannot write {str(target)!r}: it is a folder. Name a file in it.")
    return target


@contextmanager
def replacing(target: Path, *, scratch: Path | None = None) -> Iterator[Path]:
    """A scratch file beside the target, which takes its place at once when the block ends well.

    A crash leaves the old file or the new one, never a part; an exception leaves the old one and no scraps. The name
    is drawn, unless it is given.
    """
    if scratch is None:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        scratch = Path(name)
    try:
        yield scratch
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        scratch.chmod(0o666 & ~mask)
        os.replace(scratch, target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
