"""Sweeps that are ended in the middle by interrupts, kills or a full disk: nothing is lost, and nothing is wrong."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupts import interrupted, points_of
from kill_sweeps import Emptied, interrupt_at_points
from small_disk import mounted
from sweeps import REDUCERS, Numbered, flat, images, small_model, swept
from torch import nn

import spatialprobe as sp
from spatialprobe.statistics.state import StateFormat, SweepState

TESTS = Path(__file__).parents[1]
ALL = REDUCERS | {"emptied": Emptied}


def assert_identical(found, expected):
    """The same results, to the last bit."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.array_equal(found[key], value, equal_nan=np.asarray(value).dtype.kind == "f"), key


@pytest.mark.long
def test_signals_again_and_again():
    """Real interrupts and kills at random moments: every sweep ends with the uninterrupted result.

    `python tests/kill_sweeps.py` does the same five hundred times each.
    """
    command = [sys.executable, str(TESTS / "kill_sweeps.py"), "--interrupts", "12", "--kills", "6"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("0 wrong, 0 refused") == 2


def reduced():
    """One reducer of each kind, with something that waits to be sorted in."""
    reducers = {name: factory() for name, factory in REDUCERS.items()}
    draw = torch.Generator().manual_seed(0)
    for start in range(0, 24, 8):
        for reducer in reducers.values():
            reducer.update(torch.randn(8, 3, 4, 4, generator=draw), torch.arange(start, start + 8))
    return SweepState({"": reducers}, 24)


def results(state):
    return {
        (name, part): value.numpy() if torch.is_tensor(value) else value
        for name, result in state.results()[""].items()
        for part, value in vars(result).items()
    }


def test_interrupts_while_reducers_are_written():
    """Wherever an interrupt arrives while they are written, they are what they were."""
    kinds = [{name: factory() for name, factory in REDUCERS.items()} for _ in range(2)]
    state, form, expected = reduced(), StateFormat([""], *kinds), results(reduced())
    points = [point for point in points_of(lambda: form.dumps(state)) if point.event == "line"]
    ours = [point for point in points if "spatialprobe" in point.file and "statistics" in point.file]
    assert len(ours) > 30
    arrived = 0
    for point in [*ours, *random.Random(0).sample(points, 40)]:
        held = reduced()
        arrived += interrupted(lambda: form.dumps(held), point) is not None  # noqa: B023
        assert_identical(results(held), expected)
    assert arrived > 60


@pytest.mark.parametrize("kind", ["tensor", "iterable"])
def test_an_interrupt_at_any_point(kind):
    """A sweep is interrupted at a point, whichever, of all its code; continued, it has the uninterrupted result."""
    tally = interrupt_at_points(kind, 8, seed=1)
    assert (tally.wrong, tally.refused) == ([], [])
    assert tally.landed["points"] >= 6


class Swallows(nn.Module):
    """A model that goes on whatever is raised in it."""

    def __init__(self):
        super().__init__()
        self.inner = small_model()

    def forward(self, x):
        try:
            return self.inner(x)
        except:  # noqa: E722
            return torch.zeros(len(x), 2)


class Interrupted(sp.Dead):
    """Is interrupted at a sample that the environment names."""

    def update(self, activation, samples):
        super().update(activation, samples)
        if int(os.environ.get("AT", -1)) in samples.tolist():
            raise KeyboardInterrupt


def test_an_interrupt_that_the_model_swallows(tmp_path, monkeypatch):
    """The batch is only half reduced, so the sweep ends all the same, and the checkpoint is that before the batch."""
    options = {"batch_size": 4, "progress": False, "checkpoint": tmp_path / "state", "checkpoint_seconds": 0}
    reducers = {"moments": sp.Moments, "dead": Interrupted}
    expected = flat(sp.sweep(Swallows(), images(20), reducers, batch_size=4, progress=False))
    monkeypatch.setenv("AT", "9")
    with pytest.raises(KeyboardInterrupt):
        sp.sweep(Swallows(), images(20), reducers, **options)
    monkeypatch.delenv("AT")
    assert_identical(flat(sp.sweep(Swallows(), images(20), reducers, **options)), expected)


class Breaks(Emptied):
    """Is folded while it is written, and interrupted there, torn, when it has seen as much as the environment says."""

    def __init__(self):
        super().__init__()
        self.batches = 0

    def update(self, activation, samples):
        super().update(activation, samples)
        self.batches += 1

    def __getstate__(self):
        state = super().__getstate__()
        if self.batches == int(os.environ.get("AT", -1)):
            self.total = self.total * 0
            del os.environ["AT"]
            raise KeyboardInterrupt
        return state


def test_a_state_torn_by_writing_is_not_written(tmp_path, monkeypatch):
    """After an interrupt inside writing nothing more is written: the file has the state of the time before."""
    options = {"batch_size": 4, "progress": False, "checkpoint": tmp_path / "state", "checkpoint_seconds": 0}
    expected = sp.sweep(small_model(), images(12), {"emptied": Emptied}, batch_size=4, progress=False)
    monkeypatch.setenv("AT", "2")
    with pytest.raises(KeyboardInterrupt):
        sp.sweep(small_model(), images(12), {"emptied": Breaks}, **options)
    found = sp.sweep(small_model(), images(12), {"emptied": Breaks}, **options)
    for layer in "03":
        assert torch.equal(found[layer]["emptied"]["total"], expected[layer]["emptied"]["total"])


class Filling(Numbered):
    """Counts how often each sample is read, and may fill a disk at one; all are read once when they are looked at."""

    def __init__(self, at=None, folder=None):
        super().__init__(20)
        self.reads, self.at, self.folder = Counter(), at, folder

    def __getitem__(self, index):
        self.reads[index] += 1
        if index == self.at and self.reads[index] == 2:
            fill(self.folder)
        return super().__getitem__(index)


def fill(folder):
    """Leave no room on a disk."""
    with (folder / "filler").open("wb", 0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def test_a_full_disk_is_noticed_at_the_start():
    """Where the checkpoint cannot be written, nothing is swept."""
    with mounted("size=64k") as folder:
        fill(folder)
        data = Filling()
        with pytest.raises(sp.StorageError, match="Cannot write '.*state': No space left on device. Nothing was swept"):
            swept(data, checkpoint=folder / "state")
        assert data.reads[13] == 1


def test_a_disk_that_becomes_full():
    """The sweep ends with an error that names the path, the cause and what the file holds; with room it continues."""
    with mounted("size=256k") as folder:
        options = {"checkpoint": folder / "state", "checkpoint_seconds": 0}
        message = "Cannot write '.*state': No space left on device. The file holds the state after 12 samples, of 16"
        with pytest.raises(sp.StorageError, match=message):
            swept(Filling(12, folder), **options)
        (folder / "filler").unlink()
        data = Filling()
        assert_identical(flat(swept(data, **options)), flat(swept(Numbered(20))))
        assert [data.reads[index] for index in (1, 11, 12, 19)] == [1, 1, 2, 2]


def test_a_whole_sweep_is_not_thrown_away():
    """Where only the last write fails, the error has the result, and says what the file holds."""
    with mounted("size=256k") as folder:
        message = "No space left .* after 0 samples, of 20 .* The whole result is this error's `result`"
        with pytest.raises(sp.StorageError, match=message) as caught:
            swept(Filling(19, folder), checkpoint=folder / "state", checkpoint_seconds=1000)
        assert_identical(flat(caught.value.result), flat(swept(Numbered(20))))


def note_of(error):
    """What an interrupt says beside its type."""
    return error.__notes__[-1] if sys.version_info >= (3, 11) else str(error)


def test_an_interrupt_says_where_the_state_is(tmp_path, monkeypatch):
    """After how many samples, what the file holds, and to run the sweep again, which then continues."""
    options = {"batch_size": 4, "progress": False, "checkpoint": tmp_path / "state", "checkpoint_seconds": 0}
    reducers = {"dead": Interrupted}
    monkeypatch.setenv("AT", "9")
    with pytest.raises(KeyboardInterrupt) as caught:
        sp.sweep(small_model(), images(20), reducers, **options)
    assert note_of(caught.value) == (
        f"The sweep ended after 8 samples; its state after 8 samples is in {str(tmp_path / 'state')!r}: run the same "
        "sweep again to continue there."
    )
    monkeypatch.delenv("AT")
    assert sp.sweep(small_model(), images(20), reducers, **options).samples == 20


def test_an_interrupt_without_a_checkpoint_says_how_to_have_one(monkeypatch):
    """What is lost, and what to pass."""
    monkeypatch.setenv("AT", "9")
    with pytest.raises(KeyboardInterrupt) as caught:
        sp.sweep(small_model(), images(20), {"dead": Interrupted}, batch_size=4, progress=False)
    assert "ended after 8 samples, of which nothing is kept: with checkpoint='sweep.state'" in note_of(caught.value)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError("torn")], ids=repr)
def test_the_first_error_is_told(failure):
    """A full disk does not hide what ended the sweep; it is added to it."""

    class Torn(Numbered):
        reads = 0

        def __getitem__(self, index):
            self.reads += index == 13
            if self.reads == 2:  # not when it is looked at, but when it is swept
                fill(folder)
                raise failure
            return super().__getitem__(index)

    kind = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else sp.SweepError
    with mounted("size=256k") as folder:
        with pytest.raises(kind) as caught:
            swept(Torn(20), checkpoint=folder / "state", checkpoint_seconds=1000)
        if sys.version_info >= (3, 11):
            assert "No space left on device. The file holds the state after 0 samples" in caught.value.__notes__[0]


def test_a_sweep_that_had_only_begun_is_no_obstacle(tmp_path):
    """A checkpoint without a batch, of a first try with a mistake in it, is replaced; one with a batch is not."""
    options = {"progress": False, "checkpoint": tmp_path / "state", "batch_size": 4}
    with pytest.raises(sp.SweepError):
        sp.sweep(small_model(), images(20)[:, :2], REDUCERS, **options)
    assert (tmp_path / "state").exists()
    assert sp.sweep(small_model(), images(20), REDUCERS, **options).samples == 20
    with pytest.raises(sp.StorageError, match="of another sweep"):
        swept(images(19), checkpoint=tmp_path / "state")
