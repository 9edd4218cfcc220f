"""The gallery's examples of evidence: each runs as it stands, and draws its picture."""

from __future__ import annotations

import re
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import spatialprobe as sp

pytestmark = pytest.mark.no_cover

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "ablation",
    "attribution",
    "concepts",
    "checkup",
    "compare",
    "equivariance",
    "exemplars",
    "feature_maps",
    "footprint",
    "grad_cam",
    "kernel_surgery",
    "kernels",
    "linear_probe",
    "maximize_activation",
    "orientation",
    "patch_coherence",
    "pixel_permutation",
]


@pytest.fixture(autouse=True)
def few_images(monkeypatch, tmp_path):
    """Little to train on and to look at, and short searches, so that the examples are quick."""
    draw, masked = sp.examples.draw_patterns, sp.examples.draw_masked_patterns
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sp.examples, "draw_patterns", lambda count, **rest: draw(min(count, 100), **rest))
    monkeypatch.setattr(sp.examples, "draw_masked_patterns", lambda count, **rest: masked(min(count, 200), **rest))
    monkeypatch.setattr(sp, "maximize_activation", partial(sp.maximize_activation, steps=16))
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def run(name):
    return runpy.run_path(str(EXAMPLES / f"plot_{name}.py"))


@pytest.mark.parametrize("name", NAMES)
def test_example_draws(name, tmp_path):
    """The script runs without arguments, binds a picture to a name for its page, and leaves one that is not blank."""
    names = run(name)
    kinds = [type(value) for value in names.values()]
    assert Figure in kinds or any(kind.__module__.startswith("spatialprobe.render.") for kind in kinds)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{name}.png"
    with Image.open(path) as picture:
        assert picture.width >= 500
        assert np.asarray(picture.convert("L")).std() > 5


def test_every_function_has_an_example():
    """All public names of the package that measure or change something are shown."""
    from spatialprobe import evidence

    text = "".join((EXAMPLES / f"plot_{name}.py").read_text() for name in NAMES)
    assert [name for name in evidence.__all__ if name[0].islower() and f"evidence.{name}" not in text] == []


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda script: script.stem)
def test_example_can_be_taken_alone(script):
    """A script that is downloaded into an empty folder runs: it imports nothing that lies beside it."""
    lines = re.findall(r"^\s*(?:from|import) (\w+)", script.read_text(encoding="utf-8"), re.MULTILINE)
    installed = {"matplotlib", "numpy", "spatialprobe", "torch", "torchvision"}
    assert set(lines) <= installed | set(sys.stdlib_module_names)


def test_the_monitored_training_draws_and_moves(tmp_path):
    """A figure of the spread, and an animation of the maps."""
    run("monitor")
    assert {path.name for path in tmp_path.iterdir()} == {"monitor.png", "monitor.gif"}
