"""The gallery's scripts: they run alone in an empty folder, draw their pictures, and have their places in the gallery.

Here is one of each section; the documentation, where a warning is an error, runs all of them.
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("empty_folder", "few_images")]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/gallery"
SECTIONS = runpy.run_path(str(ROOT / "docs/_extensions/gallery_table.py"))["SECTIONS"]
FIRST = [next(iter(entries)) for _, _, entries in SECTIONS.values()]  # one of each section


def run(name):
    return runpy.run_path(str(EXAMPLES / f"plot_{name}.py"))


@pytest.mark.parametrize("name", [name.removeprefix("plot_").removesuffix(".py") for name in FIRST])
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

    text = "".join(path.read_text() for path in EXAMPLES.glob("plot_*.py"))
    assert [name for name in evidence.__all__ if name[0].islower() and f"evidence.{name}" not in text] == []


def test_every_script_has_its_place():
    """The table of the gallery lists each script once, under one question."""
    listed = [f"plot_{name}.py" for _, _, entries in SECTIONS.values() for name in entries]
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("plot_*.py"))


def test_every_picture_has_an_alternative_text():
    """It says what is seen, in at most a hundred characters or so; the thumbnail is cut from a picture that exists."""
    entries = {name: entry for _, _, found in SECTIONS.values() for name, entry in found.items()}
    texts = [text for entry in entries.values() for text in entry.alternatives]
    assert len(texts) == len(set(texts))
    assert all(20 < len(text) < 120 for text in texts)
    for entry in entries.values():
        left, top, right, bottom = entry.part
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert 1 <= entry.picture <= len(entry.alternatives)


def test_the_pages_show_pictures_that_the_gallery_makes():
    """Every picture of the gallery that a page shows is one that the table names, in its section."""
    pages = [page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "gallery"} & set(page.parts)]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"gallery/(\w*)/?images/sphx_glr_plot_(\w+)_(\d{3})\.", text)
    assert len(found) > 15
    for section, name, number in found:
        assert int(number) <= len(SECTIONS[section][2][name].alternatives), f"{section}/{name}_{number}"


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
