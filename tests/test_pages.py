"""The code on the documentation's pages runs as written, from top to bottom."""

from __future__ import annotations

import re
import sys
import types
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if not {"_build", "gallery"} & set(page.parts) and "```python\n" in page.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_runs(page, tmp_path, monkeypatch):
    """The Python blocks of a page run in sequence, as one module; where a library that the page needs is missing, none.

    What such a library warns of, of itself or of torch, is its own affair.
    """
    libraries = re.findall(r"^<!-- needs (.*) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    if libraries:
        warnings.simplefilter("ignore")
    for library in ", ".join(libraries).split(", ") if libraries else ():
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, page.stem, module)
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for code in blocks:
        exec(compile(code, page.name, "exec"), module.__dict__)
