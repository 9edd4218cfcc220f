"""Temporary files beside the files that they will replace: locked by one process, and deleted once it is dead."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\..*\.spatialprobe-[0-9a-f]{16}\.part", re.DOTALL)
_KEPT = 200  # bytes of the target's name in the temporary file's name, which may have 255
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # raised by file systems without locks
_OWN = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def create_temporary(target: Path, mode: int) -> Iterator[Path]:
    """Yield the path of a new, empty file in the target's folder, which is deleted at the end unless it was moved.

    The name is random and the file must not exist before, so that no existing link is followed. The file is locked
    while this process lives: a process that writes to the folder later deletes temporary files that are not locked.

    Raises:
        OSError: no file can be created there.
    """
    handle = -1
    try:
        while handle < 0:
            path = _random_name(target)
            handle = _create(path, mode)
        if fcntl is None:  # Windows cannot move a file that is open
            os.close(handle)
        yield path
    finally:
        if handle >= 0:
            with suppress(OSError):
                path.unlink()
            if fcntl is not None:
                os.close(handle)


def clear_stale(folder: Path) -> None:
    """Delete the temporary files that dead processes of this user left in a folder."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        stale = [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name)]
        for path in stale:
            with suppress(OSError):
                _delete_unheld(path)


def _random_name(target: Path) -> Path:
    """Return a name that shows what the file is for and cannot be predicted."""
    kept = os.fsdecode(os.fsencode(target.name)[:_KEPT])
    return target.with_name(f".{kept}.spatialprobe-{secrets.token_hex(8)}.part")


def _create(path: Path, mode: int) -> int:
    """Create and lock a file; return its descriptor, or -1 if another process deleted it as stale before the lock."""
    handle = os.open(path, _OWN, mode)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return -1
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(handle)
            raise
    if os.fstat(handle).st_nlink == 0:
        os.close(handle)
        return -1
    return handle


def _delete_unheld(path: Path) -> None:
    """Delete a file unless a process holds its lock.

    Raises:
        OSError: a process holds it, the file cannot be opened, or the file system has no locks.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(found, os.lstat(path)):
            path.unlink()
    finally:
        os.close(handle)
