"""Only regular files are written and read, whole or not at all, and everything about them but the content stays."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
import torch
from small_disk import mounted
from sweeps import images, small_model, swept

import spatialprobe as sp
from spatialprobe.storage import temporary as module
from spatialprobe.storage.files import replace_file, source_of, target_of, write_bytes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes, links and special files as POSIX has them")
ROOT = getattr(os, "geteuid", lambda: -1)() == 0


def records():
    return sp.capture(small_model(), images(2))


# Everything that writes one file, as a function of its path.
WRITERS = {
    "save_activations": ("a", lambda path: sp.save_activations(path, records())),
    "SweepResult.save": ("a", lambda path: swept(images(4)).save(path)),
    "write_report": ("a.html", lambda path: sp.write_report(path, small_model(), images(2))),
    "Mosaic.save": ("a.png", lambda path: sp.feature_maps(records()["0"]).save(path)),
    "Evolution.save": ("a.gif", lambda path: sp.evolution(records()).save(path)),
    "ActivationHistogram.save": ("a.png", lambda path: sp.activation_histogram(records()["0"]).save(path)),
    "checkpoint": ("a", lambda path: swept(images(4), checkpoint=path)),
}
every_writer = pytest.mark.parametrize("writer", WRITERS)


@pytest.fixture(autouse=True)
def never_hangs():
    """A test that waits for something that never comes fails."""

    def fail(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def in_use(path):
    return [entry.name for entry in Path(path).iterdir()]


@pytest.fixture
def small_disk():
    """A folder on a disk of 256 KiB."""
    with mounted("size=256k") as folder:
        yield folder


def as_nobody(call):
    """Run a function in a child process that is not root's, and fail if it fails there."""
    child = os.fork()
    if not child:
        try:
            if ROOT:
                os.setgid(65534)
                os.setuid(65534)
            call()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@every_writer
def test_other_than_regular_files(tmp_path, writer):
    """A named pipe, a socket or a device in the place of the file is refused at once, and stays."""
    name, write = WRITERS[writer]
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(sp.SpatialProbeError, match="it is a named pipe. Only a regular file is replaced"):
        write(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        with pytest.raises(sp.SpatialProbeError, match="it is a socket"):
            write(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert in_use(tmp_path) == [name]


@every_writer
def test_devices(tmp_path, writer):
    """Whoever may write to a folder of devices does not replace one."""
    name, write = WRITERS[writer]
    path = tmp_path / name
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        pytest.skip("this user cannot make devices")
    with pytest.raises(sp.SpatialProbeError, match="it is a device"):
        write(path)
    assert stat.S_ISCHR(path.stat().st_mode)


@every_writer
def test_mode_and_content(tmp_path, writer):
    """A file that is replaced keeps its mode; a new one has that which the process gives to all."""
    name, write = WRITERS[writer]
    path = tmp_path / name
    before = os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    first = path.read_bytes()
    for mode in (0o600, 0o664, 0o755):
        path.chmod(mode)
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert len(path.read_bytes()) == len(first)
    assert in_use(tmp_path) == [name]


def test_the_umask_of_other_threads(tmp_path, monkeypatch):
    """The process's umask, which all threads share, is not changed while a file is written."""
    monkeypatch.setattr(os, "umask", None)
    write_bytes(tmp_path / "a", b"new")
    write_bytes(tmp_path / "a", b"newer")
    assert (tmp_path / "a").read_bytes() == b"newer"


def test_private_while_it_is_written(tmp_path):
    """What replaces a private file is as private from the start."""
    write_bytes(tmp_path / "a", b"old")
    (tmp_path / "a").chmod(0o640)
    with replace_file(tmp_path / "a") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) & 0o077 & ~0o040 == 0


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_owner(tmp_path):
    """A file of another user that root replaces stays that user's."""
    write_bytes(tmp_path / "a", b"old")
    os.chown(tmp_path / "a", 1234, 2345)
    write_bytes(tmp_path / "a", b"new")
    found = (tmp_path / "a").stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_what_is_read_only(tmp_path):
    """A file that its owner may not write to, and a file in a folder where nobody may, are not replaced."""

    def refused():
        for path, what in ((folder / "file", "the file"), (folder / "closed" / "new", "the folder .*closed'")):
            with pytest.raises(sp.StorageError, match=f"{what} is read-only"):
                write_bytes(path, b"new")

    folder = tmp_path if not ROOT else Path(tempfile.mkdtemp())
    try:
        (folder / "closed").mkdir()
        (folder / "file").write_bytes(b"old")
        (folder / "file").chmod(0o444)
        (folder / "closed").chmod(0o555)
        folder.chmod(0o777)
        as_nobody(refused)
        assert (folder / "file").read_bytes() == b"old"
        assert not list((folder / "closed").iterdir())
    finally:
        (folder / "closed").chmod(0o755)
        shutil.rmtree(folder)


@every_writer
def test_links_are_followed(tmp_path, writer):
    """The file that a link leads to is replaced, through several links, and where it is not there yet; links stay."""
    name, write = WRITERS[writer]
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    middle, link = tmp_path / "links" / "middle", tmp_path / "links" / name
    middle.symlink_to(Path("..", "real", "file"))
    link.symlink_to("middle")
    for _ in range(2):
        write(link)
        assert os.readlink(link) == "middle"
        assert middle.is_symlink()
        assert (tmp_path / "real" / "file").stat().st_size > 100
        assert in_use(tmp_path / "real") == ["file"]
        assert sorted(in_use(tmp_path / "links")) == sorted([name, "middle"])


def test_links_that_lead_nowhere(tmp_path):
    """A circle, and a link into a folder that is not there, are clear errors."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(sp.StorageError, match="Cannot write .*one': Too many levels of symbolic links"):
        write_bytes(tmp_path / "one", b"")
    (tmp_path / "far").symlink_to(tmp_path / "none" / "file")
    with pytest.raises(sp.StorageError, match="the folder .*none' does not exist"):
        write_bytes(tmp_path / "far", b"")


@pytest.mark.skipif(not ROOT, reason="only root can make another user's link")
def test_links_of_others_in_a_shared_folder(tmp_path):
    """In a folder where everybody may write, as in /tmp, another user's link is not followed; one's own is."""
    (tmp_path / "mine").write_bytes(b"mine")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(tmp_path / "mine")
    os.lchown(shared / "link", 1234, 1234)
    (shared / "mine").symlink_to("link")
    for name in ("link", "mine"):
        with pytest.raises(sp.StorageError, match="link' is another user's link in a shared folder|Permission denied"):
            write_bytes(shared / name, b"theirs")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    os.lchown(shared / "link", 0, 0)
    write_bytes(shared / "mine", b"new")
    assert (tmp_path / "mine").read_bytes() == b"new"


def test_planted_links(tmp_path, monkeypatch):
    """A link that lies where the temporary file is to be is not followed, even if somebody guesses the name."""
    (tmp_path / "victim").write_bytes(b"mine")
    monkeypatch.setattr(module.secrets, "token_hex", lambda size: "0" * 2 * size)
    planted = module._random_name(tmp_path / "a")
    planted.symlink_to("victim")
    with pytest.raises(sp.StorageError, match="File exists"):
        write_bytes(tmp_path / "a", b"theirs")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert sorted(in_use(tmp_path)) == sorted([planted.name, "victim"])


def test_names_are_never_the_same(tmp_path):
    """Temporary files of one target do not meet."""
    with replace_file(tmp_path / "a") as one, replace_file(tmp_path / "a") as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


KILLED = """
import os, sys
from pathlib import Path
from spatialprobe.storage.files import replace_file
with replace_file(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary.name, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""


def test_what_dead_processes_left(tmp_path):
    """The temporary file of a killed process goes when the folder is next written to, that of a live one stays."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    name = child.stdout.readline().strip()
    write_bytes(tmp_path / "b", b"whole")
    assert sorted(in_use(tmp_path)) == sorted([name, "b"])
    child.communicate("\n")
    assert child.returncode == -9
    assert sorted(in_use(tmp_path)) == sorted([name, "b"])
    (tmp_path / ".a.spatialprobe-notes.part").write_bytes(b"a user's")
    (tmp_path / f".link.spatialprobe-{16 * '0'}.part").symlink_to("b")
    write_bytes(tmp_path / "b", b"again")
    assert sorted(in_use(tmp_path)) == sorted(
        [".a.spatialprobe-notes.part", f".link.spatialprobe-{16 * '0'}.part", "b"]
    )


def test_taken_for_stale(tmp_path, monkeypatch):
    """A file that another process deletes before it is locked is made again under another name."""
    names, lock = [], module.fcntl.flock

    def late(handle, how):
        if not names:
            names.extend(in_use(tmp_path))
            (tmp_path / names[0]).unlink()
        lock(handle, how)

    monkeypatch.setattr(module.fcntl, "flock", late)
    write_bytes(tmp_path / "a", b"whole")
    assert names
    assert in_use(tmp_path) == ["a"]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Files are written all the same, and nothing that lies there is deleted."""

    def none(*_):
        raise OSError(37, "No locks available")

    left = tmp_path / f".a.spatialprobe-{16 * '0'}.part"
    left.write_bytes(b"whose?")
    monkeypatch.setattr(module.fcntl, "flock", none)
    write_bytes(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert left.exists()


@every_writer
def test_a_full_disk(small_disk, writer):
    """A disk without room is an error that says so; the old file stays as it was, and nothing else is left."""
    name, write = WRITERS[writer]
    path = small_disk / name
    path.write_bytes(b"old")
    if writer == "checkpoint":
        path.unlink()
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    with pytest.raises(sp.StorageError, match=f"Cannot write '{path}': No space left on device"):
        write(path)
    if writer != "checkpoint":
        assert path.read_bytes() == b"old"
    assert sorted(in_use(small_disk)) == sorted({"filler", *([name] if writer != "checkpoint" else [])})


@every_writer
def test_a_disk_that_is_read_only(writer):
    """A folder that nobody may write to is refused before any work is done."""
    name, write = WRITERS[writer]
    with mounted("ro") as folder, pytest.raises(sp.SpatialProbeError, match="the folder .* is read-only"):
        write(folder / name)


@every_writer
@pytest.mark.parametrize(
    ("bad", "message"),
    [("a\0b", "no file name can have"), ("\ud800", "no file name can have"), ("n" * 300, "File name too long")],
    ids=["NUL", "surrogate", "long"],
)
def test_names_that_cannot_be(tmp_path, writer, bad, message):
    """A name with NUL or half a character, or one that is too long, is a clear error."""
    name, write = WRITERS[writer]
    with pytest.raises(sp.SpatialProbeError, match=message):
        write(f"{tmp_path}/{bad}{name}")
    assert not in_use(tmp_path)


def test_the_longest_name(tmp_path):
    """A name of as many bytes as the file system takes can be written, although the temporary one is longer."""
    path = tmp_path / ("é" * 127)
    write_bytes(path, b"whole")
    assert in_use(tmp_path) == [path.name]


def test_a_file_in_the_place_of_a_folder(tmp_path):
    """A path that leads through a file is a clear error."""
    (tmp_path / "file").write_bytes(b"")
    for given in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "a"):
        with pytest.raises(sp.StorageError, match="Cannot write .*Not a directory"):
            target_of(given, sp.StorageError)


@pytest.mark.parametrize("load", [sp.load_activations, sp.SweepResult.load])
def test_what_is_not_read(tmp_path, load):
    """A pipe, a socket, an endless device, a folder and impossible names are clear errors at once."""
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "a named pipe"), ("/dev/zero", "a device"), ("/dev/tty", "a device")):
        with pytest.raises(sp.StorageError, match=f"is {what}, not a .*: pass the path of a regular file"):
            load(path)
    with pytest.raises(sp.StorageError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(sp.StorageError, match="File name too long"):
        load(tmp_path / ("n" * 300))
    with pytest.raises(sp.ArgumentError, match="no file name can have"):
        load("a\0b")
    (tmp_path / "link").symlink_to("none")
    for path in (tmp_path / "none", tmp_path / "link"):
        with pytest.raises(FileNotFoundError):
            load(path)


def test_links_are_read_through(tmp_path):
    """A link to a file is as good as the file."""
    path = sp.save_activations(tmp_path / "file", records())
    (tmp_path / "link").symlink_to(path)
    assert source_of(tmp_path / "link", "file") == tmp_path / "link"
    assert torch.equal(sp.load_activations(tmp_path / "link")["0"].tensor, records()["0"].tensor)


def test_an_interrupt_leaves_nothing(tmp_path):
    """Whatever ends the block, the old file stays and the temporary one goes."""

    def interrupted(error):
        with replace_file(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise error

    write_bytes(tmp_path / "a", b"old")
    for error in (KeyboardInterrupt, SystemExit, ValueError, MemoryError):
        with pytest.raises(error):
            interrupted(error)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert in_use(tmp_path) == ["a"]
