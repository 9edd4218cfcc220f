"""Writers, runs and functions to which a monitor logs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spatialprobe as sp

IMAGES = torch.rand(1, 1, 6, 6)


def watch(log, *, steps=4, each=None, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with sp.Monitor(model, [sp.Moments], every=2, log=log, **options) as monitor:
        for step in range(steps):
            model(torch.rand(4, 1, 6, 6)).sum().backward()
            if each is not None:
                each(step)
    return monitor


class Run:
    """A run of Weights & Biases, as far as it is used: rows that a committed log ends."""

    def __init__(self):
        self.rows, self.row, self.axes = [], {}, {}

    @property
    def step(self):
        return len(self.rows)

    def define_metric(self, name, step_metric):
        self.axes[name] = step_metric

    def log(self, values, step=None, commit=None):
        self.row.update(values)
        if commit is not False:
            self.rows.append(self.row)
            self.row = {}


def test_a_function_gets_name_value_and_step():
    """The means over channels as the tables have them, gradients as soon as they are complete, and pictures."""
    got = []
    monitor = watch(lambda name, value, step: got.append((name, value, step)), gradients=True, images=IMAGES)
    for statistic in monitor.history.statistics:
        values = [value for name, value, _ in got if name == f"{statistic}/0"]
        np.testing.assert_array_equal(values, monitor.history.table(statistic)[:, 0])
    assert [step for name, _, step in got if name == "moments.mean/0"] == [0, 2]
    pictures = [value for name, value, _ in got if name == "maps/0"]
    np.testing.assert_array_equal(pictures[1], sp.feature_maps(monitor.history.maps[2]["0"][0]).array)


def test_what_is_logged_comes_at_its_step():
    """Values are written when the step's forward ends; with gradients, when the next begins, or the block ends."""

    def latest_after_each_step(gradients):
        got, seen = [], []
        watch(
            lambda name, value, step: got.append(step),
            steps=3,
            gradients=gradients,
            each=lambda step: seen.append(got[-1] if got else None),
        )
        return [*seen, got[-1]]

    assert latest_after_each_step(False) == [0, 0, 2, 2]
    assert latest_after_each_step(True) == [None, 0, 0, 2]


def test_a_run_keeps_the_rows_of_its_user():
    """What is logged joins the user's next row, with its own step as its axis; nothing of the user's is displaced."""
    run = Run()
    watch(run, each=lambda step: run.log({"loss": float(step)}))
    assert [row["loss"] for row in run.rows] == [0, 1, 2, 3]
    assert [row.get("monitor/step") for row in run.rows] == [0, None, 2, None]
    assert run.axes["moments.std/*"] == "monitor/step"


def test_a_run_without_other_rows_loses_none():
    run = Run()
    watch(run)
    assert [row["monitor/step"] for row in (*run.rows, run.row)] == [0, 2]


def test_tensorboard_files_are_read_back(tmp_path):
    """Real event files of a SummaryWriter hold every number and picture at its step."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        monitor = watch(writer, gradients=True, images=IMAGES)
    read = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
    table = monitor.history.table("moments.gradient.std")[:, 0]
    events = read.Scalars("moments.gradient.std/0")
    assert [event.step for event in events] == [0, 2]
    np.testing.assert_allclose([event.value for event in events], table, rtol=1e-6)
    assert [event.step for event in read.Images("maps/0")] == [0, 2]


def test_an_offline_run_of_wandb(tmp_path, monkeypatch):
    """Where it is installed: its own file holds the rows, and its summary the last values."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True))
    monitor = watch(run, images=IMAGES, each=lambda step: run.log({"loss": step}))
    assert run.summary["moments.std/0"] == monitor.history.table("moments.std")[1, 0]
    assert run.summary["monitor/step"] == 2
    run.finish()


class Fails:
    """A writer whose disk is full from the second step on."""

    def __init__(self):
        self.steps = []

    def __call__(self, name, value, step):
        self.steps.append(step)
        if step:
            raise OSError("the disk is full")


def test_a_writer_that_raises_does_not_end_the_training():
    """All steps run and are in the history, nothing more is written, and the error comes at the end."""
    log, seen = Fails(), []
    with pytest.raises(OSError, match="the disk is full") as caught:
        watch(log, steps=7, each=seen.append)
    assert seen == list(range(7))
    assert log.steps.count(2) == 1
    assert "log= raised this at step 2" in "".join(getattr(caught.value, "__notes__", ["log= raised this at step 2"]))


def test_an_error_of_the_loop_comes_first():
    """An exception that ends the block is the one that is raised, with a note of the writer's."""

    def end(step):
        if step == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        watch(Fails(), each=end)
    notes = getattr(caught.value, "__notes__", ["Before that log= raised OSError: the disk is full"])
    assert notes == ["Before that log= raised OSError: the disk is full"]
