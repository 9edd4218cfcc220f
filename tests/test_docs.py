"""The documentation's pages: every public name is documented, every page is listed, and all links are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_origin

import pytest

import spatialprobe
from spatialprobe import evidence, examples, testing
from spatialprobe.fields import rules

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "gallery"} & set(page.parts))
TARGETS = re.compile(r"\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def anchors_of(page):
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_public_name_is_in_the_reference():
    """Every name in `__all__` is documented exactly once."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = re.findall(r"auto(?:class|function|exception):: (\S+)", text)
    errors = [name for name in spatialprobe.__all__ if name.endswith("Error")]  # by automodule
    assert "automodule:: spatialprobe.errors" in text
    missing = set(spatialprobe.__all__) - {name.rpartition(".")[2] for name in documented} - set(errors)
    assert not missing
    assert len(documented) == len(set(documented))


def test_the_summary_of_the_reference_is_complete():
    """Every class and function that a page of the reference documents has its line on the first page of it."""
    folder = ROOT / "docs" / "api"
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(folder.glob("*.md")))
    documented = re.findall(r"auto(?:class|function|exception):: (\S+)", text)
    listed = re.findall(r"^   (\w+)$", (folder / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(documented)


@pytest.mark.parametrize("namespace", [spatialprobe, evidence, examples, testing, rules], ids=lambda one: one.__name__)
def test_every_public_name_has_an_example(namespace):
    """The docstring of each class and function has an example; the doctests run with the suite."""
    shown = (getattr(namespace, name) for name in namespace.__all__)
    objects = [one for one in shown if get_origin(one) is None]  # `Rule` is an alias of a type
    objects = [one for one in objects if not isinstance(one, tuple)]  # nor are the names of the classes of patterns
    assert len(objects) >= len(namespace.__all__) - 1
    assert not [one.__qualname__ for one in objects if ">>> " not in (one.__doc__ or "")]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Linked files and headings exist, and external URLs are well-formed; nothing is fetched."""
    for pair in TARGETS.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = "".join(pair).partition("#")
        if re.match(r"[a-z]+:", target):
            assert re.fullmatch(r"https://[\w.-]+(/\S*)?", target), target
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists() or "gallery" in file.parts, f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(file), f"{page.name}: #{anchor}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name in ("how_to", "api")], ids=lambda page: page.stem
)
def test_every_guide_has_its_picture(page):
    """Each how-to and each page of the reference but the summary shows what it does, with an alternative text."""
    text = page.read_text(encoding="utf-8")
    texts = re.findall(r"!\[([^\]]*)\]\(", text)
    assert all(20 < len(one) < 150 for one in texts)
    assert texts or 'class="live"' in text or page.stem == "index"


def test_every_drawing_is_shown():
    """Each module of drawings is on a page, and each drawing on a page has a module."""
    shown = {
        name for page in PAGES for name in re.findall(r"gallery/drawings/(\w+)\.png", page.read_text(encoding="utf-8"))
    }
    assert shown == {module.stem for module in (ROOT / "docs" / "_drawings").glob("*.py")}


def test_times_beside_other_libraries_are_those_of_the_benchmarks():
    """The table of the comparison holds the medians of the benchmarks, library by library."""
    page = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
    measured = (ROOT / "docs" / "benchmarks" / "index.md").read_text(encoding="utf-8")
    columns = ["Probe", "captum LayerActivation", "TorchLens record", "torchvision feature_extraction"]
    rows = re.findall(r"^\| (VGG-16|ResNet-18|ResNet-50|DenseNet-121|ConvNeXt_Tiny)[^|]*\|(.*)\|$", page, re.MULTILINE)
    assert len(rows) == 5
    for model, cells in rows:
        section = measured.partition(f"**{model}, batch 2")[2].partition("\n**")[0]
        medians = [re.search(rf"^\| {column} \| ([\d.]+|missing)", section, re.MULTILINE)[1] for column in columns]
        assert [cell.strip() for cell in cells.split("|")] == [one.replace("missing", "–") for one in medians]


def test_every_page_is_in_a_table_of_contents():
    """Every page can be reached from a table of contents."""
    listed = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{line}.md").resolve() for line in lines}
    assert {page.resolve() for page in PAGES} - listed == {(ROOT / "docs" / "index.md").resolve()}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_code_fits_beside_the_contents(page):
    """No line of Python on a page is wider than 88 characters, which is what a page shows without scrolling."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert not [line for block in blocks for line in block.splitlines() if len(line) > 88]


def test_one_version_everywhere():
    """The newest entry of the changelog and the citation file speak of this version."""
    newest = re.search(r"^## (\S+)", (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "docs" / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest[1] == cited[1] == spatialprobe.__version__
