"""Checkpoints: a sweep that is killed continues to the same result; what is not its own file is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from sweeps import REDUCERS, Numbered, flat, images, outcome, small_model, swept, together
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.data import DataLoader, TensorDataset

import spatialprobe as sp
from spatialprobe.storage.restricted_pickle import RestrictedPickle

COUNT, KILLS = 150, 12


def assert_identical(found, expected):
    """The same keys, and the same values to the last bit."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.array_equal(found[key], value, equal_nan=np.asarray(value).dtype.kind == "f"), key


def described(path):
    """What a checkpoint says of itself."""
    return json.loads(path.read_bytes().split(b"\n")[1])


def killed(sweeping, delay):
    """Whether the sweep was still on when SIGKILL ended its process."""
    child = os.fork()
    if not child:
        outcome(sweeping)
        os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


KINDS = ("data set", "loader", "store")


def killed_often(folder):
    """Sweeps of one kind of data in each process, killed at random moments and continued, beside uninterrupted ones."""
    name, data = KINDS[int(os.environ["RANK"])], Numbered(COUNT, seconds=0.004)
    del os.environ["WORLD_SIZE"]
    for heavy in ("spatialprobe.statistics.store", "zarr"):
        if name == "store" and find_spec(heavy):  # imported here once, not in each child
            import_module(heavy)
    sweeping = {
        "data set": lambda **k: swept(data, **k),
        "loader": lambda **k: swept(DataLoader(data, 4), **k),
        "store": lambda **k: swept(data, store=folder / "acts.zarr", **k),
    }[name]
    path, draw = folder / f"{name}.checkpoint", random.Random(name)
    options = {"checkpoint": path, "checkpoint_seconds": 0}
    kills, progress, patience = 0, 0, 1
    for _ in range(KILLS):  # three delays are too short for all of the data, on any machine
        kills += killed(partial(sweeping, **options), patience * draw.uniform(0.02, 0.25))
        before, progress = progress, described(path)["progress"]["samples"] if path.exists() else 0
        if progress == COUNT:
            break
        patience *= 2 if progress == before and patience < 16 else 1  # a busy machine needs longer to start
    scraps = sorted(one.name for one in folder.iterdir() if one.name.startswith(".") and name in one.name)
    continued = outcome(lambda: flat(sweeping(**options)))
    return kills, progress, scraps, continued, outcome(lambda: flat(sweeping() if name != "store" else swept(data)))


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    return dict(zip(KINDS, together(killed_often, folder, len(KINDS)), strict=True)), folder


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_continued(deaths, kind):
    """After a dozen SIGKILLs at random moments the sweep ends with the uninterrupted result, to the last bit."""
    if kind == "store":
        pytest.importorskip("zarr")
    kills, progress, scraps, continued, without = deaths[0][kind]
    assert kills >= 3  # the sweep was on when they came
    assert 0 < progress <= COUNT
    assert len(scraps) <= 1  # a half-written file has one name, which the next write takes
    assert_identical(continued, without)


@pytest.mark.long
def test_the_store_after_many_deaths(deaths):
    """Every activation is there and right, also those of batches that were written twice."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(deaths[1] / "acts.zarr", mode="r")
    with torch.no_grad():
        expected = small_model().eval()[:1](images(COUNT)).numpy()
    assert group["0"]["sample"][:].tolist() == list(range(COUNT))
    assert np.allclose(group["0"]["activation"][:], expected, atol=1e-6)


class Counting(nn.Module):
    """A model whose batches are counted from outside: what it counted itself would be restored after the sweep."""

    def __init__(self):
        super().__init__()
        self.inner = small_model()

    def forward(self, x):
        return self.inner(x)


@contextmanager
def counting():
    """A list with an entry for each batch that a `Counting` runs."""
    batches = []
    handle = register_module_forward_pre_hook(
        lambda module, args: batches.append(1) if isinstance(module, Counting) else None
    )
    try:
        yield batches
    finally:
        handle.remove()


class _TornLater(Numbered):
    """Can be read when it is looked at, and not any more when it is swept."""

    torn = 13
    reads = 0

    def __getitem__(self, index):
        if index == self.torn:
            self.reads += 1
            if self.reads == 2:
                raise OSError("torn")
        return super().__getitem__(index)


def test_an_exception_keeps_the_checkpoint(tmp_path):
    """A sweep that ended with an error continues after the last whole batch, whatever checkpoint_seconds is."""
    path, model, torn = tmp_path / "state", Counting(), _TornLater(30)
    with pytest.raises(sp.SweepError, match="OSError: torn at sample 13. This was for batch 3"):
        swept(torn, checkpoint=path)
    sweeping = partial(sp.sweep, model, Numbered(30), REDUCERS, batch_size=4, progress=False)
    with pytest.raises(sp.StorageError, match="different are the model's weights or structure, the data"):
        sweeping(checkpoint=path)
    continued = swept(torn, checkpoint=path)
    assert_identical(flat(continued), flat(swept(Numbered(30))))


def test_a_finished_checkpoint_is_not_swept_again(tmp_path):
    """The result comes from the file, and no batch runs."""
    sweeping = partial(sp.sweep, batch_size=4, progress=False, checkpoint=tmp_path / "state")
    with counting() as first:
        result = sweeping(Counting(), images(10), REDUCERS)
    with counting() as again:
        found = sweeping(Counting(), images(10), REDUCERS)
    assert (len(first), len(again)) == (3, 0)
    assert_identical(flat(found), flat(result))


def test_a_reducer_that_raises_keeps_the_checkpoint(tmp_path, monkeypatch):
    """The file has the state before the batch that failed, not half of that batch."""
    path = tmp_path / "state"
    reducers = {"mine": partial(_Fragile, 9)}
    options = {"checkpoint": path, "checkpoint_seconds": 0}
    sweeping = partial(sp.sweep, small_model(), images(20), batch_size=4, progress=False, **options)
    with pytest.raises(sp.SweepError, match=r"'mine' raised ValueError: no at layer '3' in batch 2 \(samples 8 to 11"):
        sweeping(reducers)
    assert described(path)["progress"]["samples"] == 8
    monkeypatch.setenv("FRAGILE", "no")
    assert sweeping(reducers)["3"]["mine"] == (list(range(20)),)


class _Fragile:
    """The samples seen; fails in the last layer at one of them, unless the environment says otherwise."""

    def __init__(self, sample):
        self.sample, self.samples = sample, []

    def update(self, activation, samples):
        if "FRAGILE" not in os.environ and activation.shape[1] == 5 and self.sample in samples.tolist():
            raise ValueError("no")
        self.samples += samples.tolist()

    def merge(self, other):
        self.samples += other.samples

    def result(self):
        return (self.samples,)


def refitted(model):
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    return model


def moved_buffer(model):
    model[1].running_mean[0] += 1
    return model


def strided():
    model = small_model()
    model[0].padding_mode = "reflect"
    return model


OTHER = {
    "weights": ("the model's weights", {"model": refitted(small_model())}),
    "a buffer": ("the model's weights", {"model": moved_buffer(small_model())}),
    "an attribute": ("the attributes 'padding_mode' of modules", {"model": strided()}),
    "structure": ("the model's weights or structure", {"model": small_model().append(nn.ReLU())}),
    "one pixel": ("the data", {"data": torch.cat([images(19), images(20)[19:] + torch.eye(8) * 1e-6])}),
    "length": ("the data", {"data": images(21)}),
    "another data set": ("the data", {"data": Numbered(20)}),
    "layers": ("the layers", {"layers": "0"}),
    "at": ("at=", {"at": "post_activation", "layers": "0"}),
    "nonfinite": ("nonfinite=", {"nonfinite": "count"}),
    "k": ("the reducers or their parameters", {"reducers": REDUCERS | {"top": partial(sp.Exemplars, k=6)}}),
    "a reducer's name": ("the reducers", {"reducers": {"means": sp.Moments}}),
    "fewer reducers": ("the reducers", {"reducers": {"moments": sp.Moments}}),
    "a store": ("store=", {"store": "acts.zarr"}),
}


@pytest.mark.parametrize("name", OTHER)
def test_of_another_sweep(tmp_path, monkeypatch, name):
    """A checkpoint of another model, data set, layer list or reducer is refused, and left as it is."""
    monkeypatch.chdir(tmp_path)
    message, change = OTHER[name]
    usual = {"model": small_model(), "data": images(20), "reducers": REDUCERS}
    options = {"checkpoint": tmp_path / "state", "progress": False}
    sp.sweep(**usual, **options)
    before = (tmp_path / "state").read_bytes()
    with pytest.raises(sp.StorageError, match=f"is of another sweep: different are .*{message}"):
        sp.sweep(**(usual | change), **options)
    assert (tmp_path / "state").read_bytes() == before
    sp.sweep(**usual, **options)


def test_the_same_again_is_not_another_sweep(tmp_path):
    """Fresh objects of equal content continue: model, data, reducers made anew."""
    for _ in range(2):
        swept(TensorDataset(images(9), torch.arange(9)), checkpoint=tmp_path / "state")
    with pytest.raises(sp.StorageError, match="the data"):
        swept(TensorDataset(-images(9), torch.arange(9)), checkpoint=tmp_path / "state")


@pytest.mark.parametrize("place", [0.0, 0.002, 0.2, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged(tmp_path, place, damage):
    """A file with a byte that is wrong, or without its end, is refused, wherever the damage is."""
    path = tmp_path / "state"
    swept(images(9), checkpoint=path)
    whole = path.read_bytes()
    at = int(len(whole) * place)
    broken = whole[:at] if damage == "cut" else whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    path.write_bytes(broken)
    with pytest.raises(sp.StorageError, match="damaged|not a checkpoint|another version of spatialprobe"):
        swept(images(9), checkpoint=path)
    assert path.read_bytes() == broken


def test_other_versions_are_refused(tmp_path):
    """A file of another format says so."""
    path = tmp_path / "state"
    swept(images(9), checkpoint=path)
    path.write_bytes(path.read_bytes().replace(b"spatialprobe sweep 2 ", b"spatialprobe sweep 1 ", 1))
    with pytest.raises(sp.StorageError, match="has format .*1.*, not 2"):
        swept(images(9), checkpoint=path)


def forged(path, *, payload=None, **described):
    """The checkpoint with another state or description, and the checksum that belongs to it."""
    whole = path.read_bytes()
    line, held = whole.split(b"\n", 1)[1].split(b"\n", 1)
    rest = json.dumps(json.loads(line) | described).encode() + b"\n" + (held if payload is None else payload)
    path.write_bytes(b"spatialprobe sweep 2 " + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('exploded')",)


def bomb(**_):
    torch.save({"0": _Bomb()}, made := io.BytesIO())
    return made.getvalue()


class _Other:
    pass


def of_other_reducers(**reducers):
    kinds = {name: kind() for name, kind in reducers.items()}
    return RestrictedPickle(kinds.values()).dumps(({"0": kinds, "3": kinds}, 9))


FORGED = {
    "code": ({"payload": bomb()}, "names __builtin__.exec. .*do not trust"),
    "another class": ({"payload": of_other_reducers(moments=_Other)}, "names .*_Other"),
    "other reducers": ({"payload": of_other_reducers(moments=sp.Dead)}, "does not hold these reducers"),
    "no state": ({"payload": RestrictedPickle().dumps(3)}, "does not hold these reducers"),
    "no file of torch": ({"payload": pickle.dumps(_Bomb())}, "cannot be read"),
    "no progress": ({"progress": None}, "was not written by a sweep"),
    "a negative number": ({"progress": {"samples": -1, "batches": 0, "trail": ""}}, "was not written by a sweep"),
    "an unknown field": ({"progress": {"samples": 1}}, "was not written by a sweep"),
    "finished?": ({"finished": "no"}, "was not written by a sweep"),
    "no identity": ({"identity": [1]}, "is of another sweep"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged(tmp_path, name):
    """A file with a right checksum and identity runs no code, and what is wrong in it is a clear error."""
    path = tmp_path / "state"
    swept(images(9), checkpoint=path)
    change, message = FORGED[name]
    forged(path, **change)
    with pytest.raises(sp.StorageError, match=message):
        swept(images(9), checkpoint=path)


def test_a_forgery_of_nothing_continues(tmp_path):
    """The files of the test above are refused for what is wrong in them alone."""
    path = tmp_path / "state"
    swept(images(9), checkpoint=path)
    forged(path)
    assert swept(images(9), checkpoint=path).samples == 9


@dataclass(frozen=True)
class Entry:
    sample: int
    value: np.ndarray


class Late:
    """Holds objects that a new one does not hold."""

    def __init__(self):
        self.entries = []

    def update(self, activation, samples):
        self.entries += [
            Entry(int(sample), value.amax((1, 2)).numpy()) for sample, value in zip(samples, activation, strict=True)
        ]

    def merge(self, other):
        self.entries += other.entries

    def result(self):
        return [(entry.sample, entry.value.tolist()) for entry in self.entries]


class Listing(Late):
    state_types = (Entry,)


def test_a_state_of_classes_of_ones_own(tmp_path):
    """Classes that come into a state later are listed in `state_types`; else the error says so, with their name."""
    data, options = _TornLater(30), {"batch_size": 4, "progress": False, "checkpoint": tmp_path / "state"}
    with pytest.raises(sp.SweepError, match="'mine' of layer '0' holds an object of the class .*Entry.*state_types = "):
        sp.sweep(small_model(), Numbered(30), {"mine": Late}, **options, checkpoint_seconds=0)
    (tmp_path / "state").unlink(missing_ok=True)
    with pytest.raises(sp.SweepError, match="torn"):
        sp.sweep(small_model(), data, {"mine": Listing}, **options)
    assert described(tmp_path / "state")["progress"]["samples"] == 12
    continued = sp.sweep(small_model(), data, {"mine": Listing}, **options)
    whole = sp.sweep(small_model(), Numbered(30), {"mine": Late}, batch_size=4, progress=False)
    assert continued["3"]["mine"] == whole["3"]["mine"]


def batches(count, *, changed=None, size=4):
    for number, first in enumerate(range(0, count, size)):
        batch = images(count)[first : first + size]
        yield -batch if number == changed else batch


class Ends(Exception):
    pass


def cut_short(stream, after):
    for number, batch in enumerate(stream):
        if number == after:
            raise Ends
        yield batch


def test_a_stream_continues_where_it_was(tmp_path):
    """An iterable is read again from the start, and its batches are known again by what they hold."""
    options = {"checkpoint": tmp_path / "state"}
    with pytest.raises(sp.SweepError, match="The data raised Ends at batch 3"):
        swept(cut_short(batches(20), 3), **options)
    kept = (tmp_path / "state").read_bytes()
    for stream, message in (
        (batches(20, changed=1), "first 3 batches are not those of the checkpoint"),
        (batches(20, size=5), "first 3 batches are not those of the checkpoint"),
        (batches(8), "ended after 2 batches, but the checkpoint was written after 3"),
    ):
        with pytest.raises(sp.StorageError, match=message):
            swept(stream, **options)
        assert (tmp_path / "state").read_bytes() == kept
    assert_identical(flat(swept(batches(20), **options)), flat(swept(batches(20))))
    with pytest.raises(sp.StorageError, match="is of a finished sweep of 5 batches, but the data has more"):
        swept(batches(24), **options)


def test_a_shuffling_loader_is_not_continued_wrongly(tmp_path):
    """Another order is refused, so that no sample is taken twice; the same order continues."""
    loader = DataLoader(_TornLater(30), 4, shuffle=True)
    loader.dataset.reads = 1
    torch.manual_seed(6)
    with pytest.raises(sp.SweepError, match="The data raised OSError: torn at batch [1-9]"):
        swept(loader, checkpoint=tmp_path / "state")
    torch.manual_seed(7)
    with pytest.raises(sp.StorageError, match="a loader that shuffles"):
        swept(loader, checkpoint=tmp_path / "state")
    torch.manual_seed(6)
    continued = swept(loader, checkpoint=tmp_path / "state")["0"]["top"]
    assert torch.equal(continued.samples, swept(Numbered(30))["0"]["top"].samples)


class Augmented(Numbered):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.randn(()), label


def test_random_augmentation_is_refused(tmp_path):
    """A sweep of a data set whose samples differ each time cannot be continued to the same result."""
    with pytest.raises(sp.ArgumentError, match="differs each time it is read"):
        swept(Augmented(9), checkpoint=tmp_path / "state")
    assert swept(Augmented(9)).samples == 9


@pytest.mark.parametrize("path", ["missing/state", "."])
def test_paths_that_are_none(tmp_path, path):
    """A folder, or a file in a folder that is not there."""
    with pytest.raises(sp.ArgumentError, match="Create it first|it is a folder"):
        swept(images(9), checkpoint=tmp_path / path)


def test_reducers_that_cannot_be_kept(tmp_path):
    """A reducer that cannot be written and read back is refused before anything runs."""
    for factory, message in (
        (lambda: type("Local", (sp.Dead,), {})(), "'mine', which .*, holds an object of the class .*Local"),
        (_WithLambda, "'mine', which .*, holds .*<lambda>"),
    ):
        with counting() as batches, pytest.raises(sp.ArgumentError, match=message):
            sp.sweep(Counting(), images(9), {"mine": factory}, checkpoint=tmp_path / "state", progress=False)
        assert not batches
    assert not list(tmp_path.iterdir())


class _WithLambda(sp.Dead):
    def __init__(self):
        super().__init__()
        self.function = lambda value: value


def test_written_about_as_often_as_asked(tmp_path, monkeypatch):
    """At the start and at the end when batches are quick; after each batch too when the time between is 0."""
    from spatialprobe.statistics.checkpoint import Checkpoint

    saves = []
    real = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, *a, **k: (saves.append(k), real(self, *a, **k)))
    swept(images(20), checkpoint=tmp_path / "a", checkpoint_seconds=1000)
    assert len(saves) == 2
    swept(images(20), checkpoint=tmp_path / "b", checkpoint_seconds=0)
    assert len(saves) == 2 + 1 + 5 + 1
