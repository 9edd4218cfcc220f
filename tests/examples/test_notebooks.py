"""The notebooks: each runs alone in an empty folder; with outputs they are pages of the documentation."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
INSTALLED = {"matplotlib", "numpy", "spatialprobe", "torch", "torchvision"}  # by `pip install spatialprobe[examples]`


def cells_of(notebook, kind):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell, "".join(cell["source"])) for cell in cells if cell["cell_type"] == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda notebook: notebook.stem)
def notebook(request):
    return request.param


def test_runs_in_an_empty_folder(notebook, empty_folder, few_images, monkeypatch):
    """Every cell runs, in order; what one ends with shows itself, and each picture has an alternative text."""
    import matplotlib as mpl

    monkeypatch.setenv("CI", "true")  # no browser opens
    names, pictures = {"__name__": "__main__"}, 0
    with mpl.rc_context({"backend": "agg"}):
        for cell, source in cells_of(notebook, "code"):
            *body, last = ast.parse(source).body
            exec(compile(ast.Module(body, []), notebook.name, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), notebook.name, "eval"), names)
                drawn = hasattr(value, "_repr_png_")
            else:
                exec(compile(ast.Module([last], []), notebook.name, "exec"), names)
                drawn = "plt.subplots" in source
            pictures += drawn
            assert not drawn or 20 < len(cell["metadata"]["alt"]) < 150, source
    assert pictures >= 4
    if "plt" in names:
        names["plt"].close("all")


def test_is_committed_clean(notebook):
    """No outputs, no counts, short cells, and nothing is imported but what the extra `examples` brings."""
    for cell, source in cells_of(notebook, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert len(source.splitlines()) <= 30
        imports = re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE)
        assert set(imports) <= INSTALLED | set(sys.stdlib_module_names)
    assert all(len(text.splitlines()) <= 20 for _, text in cells_of(notebook, "markdown"))


def test_exercises_have_hints():
    """Each exercise of the notebook for a class is followed by a hint that can be opened."""
    (notebook,) = (one for one in NOTEBOOKS if one.stem == "why_cnns_see_patterns")
    text = "\n".join(source for _, source in cells_of(notebook, "markdown"))
    exercises = text.split("**Exercise")[1:]
    assert len(exercises) >= 4
    assert all("<summary>Hint</summary>" in one for one in exercises)
