"""Paths that can be read and written, and atomic writes of files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spatialprobe.arguments import short_repr
from spatialprobe.errors import ArgumentError, SpatialProbeError, StorageError
from spatialprobe.storage.temporary import clear_stale, create_temporary

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a `Path`.

    Raises:
        ArgumentError: it is not a path, or has characters that are not allowed in paths.

    >>> path_of(5)
    Traceback (most recent call last):
    spatialprobe.errors.ArgumentError: path must be a name such as 'results/maps', or a pathlib.Path, not 5.
    """
    try:
        found = Path(path)
    except TypeError as error:
        raise ArgumentError(
            f"path must be a name such as 'results/maps', or a pathlib.Path, not {short_repr(path)}."
        ) from error
    try:
        possible = b"\0" not in os.fsencode(found)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ArgumentError(f"path has characters that no file name can have, such as NUL: {short_repr(str(found))}.")
    return found


def target_of(path: str | os.PathLike[str], error: type[SpatialProbeError] = ArgumentError) -> Path:
    """Return the path of a file that can be written: a new one in a folder that exists, or a regular file.

    Raises:
        ArgumentError: it is not a path.
        SpatialProbeError: an instance of `error`: the folder does not exist or is read-only, the file is read-only, or
            the path leads to something other than a regular file.
    """
    target = path_of(path)
    _check_writable(target, error)
    return target


def folder_of(path: str | os.PathLike[str], purpose: str) -> Path:
    """Return the path of a folder that exists.

    `purpose` describes in error messages what the folder is for, such as "save 3 pictures".

    Raises:
        ArgumentError: there is no such folder.
    """
    folder = path_of(path)
    try:
        found = _stat(folder)
    except OSError as error:
        raise ArgumentError(f"Cannot {purpose} in {shown_path(folder)}: {describe_os_error(error)}.") from error
    if found is None:
        raise ArgumentError(f"Cannot {purpose}: the folder {shown_path(folder)} does not exist. Create it first.")
    if not stat.S_ISDIR(found.st_mode):
        raise ArgumentError(f"Cannot {purpose} in {shown_path(folder)}: it is not a folder.")
    return folder


def source_of(path: str | os.PathLike[str], kind: str) -> Path:
    """Return the path of a regular file to read; `kind` describes in error messages what it should be.

    Raises:
        ArgumentError: it is not a path.
        FileNotFoundError: there is no such file.
        StorageError: it is a folder, device or pipe, or cannot be reached.
    """
    source = path_of(path)
    try:
        found = source.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"No file {shown_path(source)}.") from None
    except OSError as error:
        raise StorageError(f"Cannot read {shown_path(source)}: {describe_os_error(error)}.") from error
    if stat.S_ISDIR(found.st_mode):
        raise StorageError(f"{shown_path(source)} is a folder, not a {kind}: name the file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{shown_path(source)} is {_kind(found)}, not a {kind}: pass the path of a regular file.")
    return source


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside the target, which replaces the target if the block succeeds.

    A crash leaves the old file or the new one, never a part; an exception leaves the old one and no temporary file.
    Symbolic links are followed: the link stays, and the file it points to is replaced. The new file has the mode of
    the old one and, where permitted, its owner. Temporary files that dead processes left in the folder are deleted.

    Raises:
        StorageError: the file cannot be written, for example because the disk is full.
    """
    real, old = _check_writable(target, StorageError)
    clear_stale(real.parent)
    try:
        with create_temporary(real, 0o666 if old is None else 0o600) as temporary:
            mode = stat.S_IMODE((temporary.stat() if old is None else old).st_mode)
            _set_mode(temporary, mode | stat.S_IRUSR | stat.S_IWUSR)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            _set_mode(temporary, mode if old is None else _keep_owner(temporary, old))
            os.replace(temporary, real)
    except OSError as error:
        raise StorageError(f"Cannot write {shown_path(target)}: {describe_os_error(error)}.") from error


def write_bytes(target: Path, data: bytes) -> None:
    """Write a file atomically, as `replace_file` does.

    Raises:
        StorageError: it cannot be written.
    """
    with replace_file(target) as temporary:
        temporary.write_bytes(data)


def describe_os_error(error: OSError) -> str:
    """Return the reason of an operating system error, such as "No space left on device"."""
    return error.strerror or str(error)


def shown_path(path: Path) -> str:
    """Return a path in quotes, with the middle of a very long one left out."""
    text = str(path)
    return repr(text if len(text) <= 500 else f"{text[:200]}...{text[-200:]}")


def _check_writable(target: Path, error: type[SpatialProbeError]) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path leads to, through links, and its present status: None if it does not exist yet."""
    try:
        old = _stat(target)
        _check_links(target)
        real = Path(os.path.realpath(target)) if target.is_symlink() else target
        folder = _stat(real.parent)
    except OSError as problem:
        raise error(f"Cannot write {shown_path(target)}: {describe_os_error(problem)}.") from problem
    if old is not None and not stat.S_ISREG(old.st_mode):
        what = "Name a file in it" if stat.S_ISDIR(old.st_mode) else "Only a regular file is replaced: name another"
        raise error(f"Cannot write {shown_path(target)}: it is {_kind(old)}. {what}.")
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise error(
            f"Cannot write {target.name!r}: the folder {shown_path(real.parent)} does not exist. Create it first."
        )
    if old is not None and not os.access(real, os.W_OK):
        raise error(f"Cannot write {shown_path(target)}: the file is read-only.")
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise error(f"Cannot write {target.name!r}: the folder {shown_path(real.parent)} is read-only.")
    return real, old


def _check_links(path: Path) -> None:
    """Check that no link was planted by another user in a world-writable folder such as /tmp.

    Linux itself refuses such links if `fs.protected_symlinks` is on, as it is by default.

    Raises:
        PermissionError: a link was planted.
    """
    while path.is_symlink():
        folder, link = path.parent.stat(), path.lstat()
        shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if shared and link.st_uid not in (os.geteuid(), folder.st_uid):
            raise PermissionError(errno.EACCES, f"{shown_path(path)} is another user's link in a shared folder")
        path = path.parent / os.readlink(path)


def _stat(path: Path) -> os.stat_result | None:
    """Return the status of the file at a path, links followed, or None if there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _kind(found: os.stat_result) -> str:
    return next((name for test, name in _KINDS if test(found.st_mode)), "not a regular file")


def _keep_owner(temporary: Path, old: os.stat_result) -> int:
    """Set the owner of a file to that of the one it will replace, where permitted; return the mode it should have.

    If the group cannot be kept, the new group gets the permissions of others only.
    """
    mode, new = stat.S_IMODE(old.st_mode), temporary.stat()
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        for uid, gid in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
            try:
                os.chown(temporary, uid, gid)
                return mode
            except OSError:
                continue
        return mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    return mode


def _set_mode(path: Path, mode: int) -> None:
    """Change a file's mode if it differs: some file systems have a single mode for all files."""
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
