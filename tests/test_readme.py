"""The README: its code runs, its output is the real one, and its files exist."""

from __future__ import annotations

import operator
import re
import tempfile
from pathlib import Path

import pytest

import spatialprobe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_code_runs_and_prints_what_is_shown(tmp_path, monkeypatch):
    """The example runs as written and writes its files, and the table in the README is the one it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "true")  # no browser opens
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "maps.png").stat().st_size > 1000
    assert names["report"].path.stat().st_size > 1000
    assert blocks("text")[0].strip() == repr(names["probe"])


def test_pictures_exist():
    """Every picture that the README shows is in the repository, and is under two megabytes."""
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for picture in pictures:
        assert 1000 < (ROOT / picture).stat().st_size < 2_000_000


def test_the_two_commands():
    """One command runs the study and one the tests, and the files and extras in them exist."""
    install, study, tests = blocks("sh")
    assert install == "pip install spatialprobe\n"
    assert "examples/cifar10_study.py" in study
    assert "pytest" in tests
    extras = re.findall(r"\[(\w+)\]", study + tests)
    assert len(extras) == 2
    for extra in extras:
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_calls_of_the_table_exist():
    """Every `sp.name(` that the README names is public."""
    names = set(re.findall(r"sp\.([\w.]+)", README))
    assert len(names) > 15
    for name in names:
        assert operator.attrgetter(name)(spatialprobe), name


def test_times_beside_other_libraries_are_those_of_the_benchmarks():
    """The times in the table are the medians on the page of benchmarks, in the same order."""
    page = (ROOT / "docs" / "benchmarks" / "index.md").read_text(encoding="utf-8")
    columns = ["Probe", "captum LayerActivation", "TorchLens record", "torchvision feature_extraction"]
    for row, section in [("time, VGG-16", "VGG-16, batch 2"), ("time, ResNet-18", "ResNet-18, batch 2")]:
        measured = page.partition(f"**{section}")[2].partition("\n**")[0]
        medians = [re.search(rf"^\| {column} \| ([\d.]+)", measured, re.MULTILINE)[1] for column in columns]
        (shown,) = re.findall(rf"^\| {row}.*", README, re.MULTILINE)
        assert [cell.strip() for cell in shown.split("|")[2:6]] == medians


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "pyproject.toml", "src", "tests", "docs", "examples"])
def test_layout(name):
    """The files and folders of the repository's top level exist."""
    assert (ROOT / name).exists()
