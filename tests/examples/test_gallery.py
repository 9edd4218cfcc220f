"""The gallery's examples of evidence: each runs as it stands, and draws its picture."""

from __future__ import annotations

import runpy
from pathlib import Path

import data
import numpy as np
import pytest
import ready
import torch
from PIL import Image

pytestmark = pytest.mark.no_cover

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "attribution",
    "checkup",
    "compare",
    "equivariance",
    "footprint",
    "kernel_surgery",
    "linear_probe",
    "orientation",
    "patch_coherence",
    "pixel_permutation",
]


@pytest.fixture(autouse=True)
def few_images(monkeypatch, tmp_path):
    """Little to train on, so that the examples are quick; nothing of it is left for others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "TRAIN_COUNT", 200)
    monkeypatch.setattr(data, "TEST_COUNT", 200)
    ready.forget()
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
    ready.forget()


def run(name):
    return runpy.run_path(str(EXAMPLES / f"plot_{name}.py"))


@pytest.mark.parametrize("name", NAMES)
def test_example_draws(name, tmp_path):
    """The script runs without arguments and leaves one picture, which is not blank."""
    run(name)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{name}.png"
    with Image.open(path) as picture:
        assert picture.width >= 600
        assert np.asarray(picture.convert("L")).std() > 5


def test_every_function_has_an_example():
    """All public names of the package that measure or change something are shown."""
    from spatialprobe import evidence

    text = "".join((EXAMPLES / f"plot_{name}.py").read_text() for name in NAMES)
    assert [name for name in evidence.__all__ if name[0].islower() and f"evidence.{name}" not in text] == []


def test_examples_share_a_network_that_none_can_spoil():
    """What an example does to the trained network is not seen by the next."""
    first, second = ready.trained(), ready.trained()
    first.conv1.weight.data.zero_()
    assert second.conv1.weight.any()
    assert not second.training


def test_the_monitored_training_draws_and_moves(tmp_path):
    """A figure of the spread, and an animation of the maps."""
    run("monitor")
    assert {path.name for path in tmp_path.iterdir()} == {"monitor.png", "monitor.gif"}
