"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
