"""The README: its code runs, its output is the real one, and its files exist."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

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
    """Every picture that the README shows is in the repository."""
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file()


def test_the_two_commands():
    """One command runs the study and one the tests, and the files and extras in them exist."""
    study, tests = blocks("sh")
    assert "examples/cifar10_study.py" in study
    assert "pytest" in tests
    extras = re.findall(r"\[(\w+)\]", study + tests)
    assert len(extras) == 2
    for extra in extras:
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "pyproject.toml", "src", "tests", "docs", "examples"])
def test_layout(name):
    """The files and folders of the repository's top level exist."""
    assert (ROOT / name).exists()
