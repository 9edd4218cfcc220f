"""The surface of the package: its public names, its imports at run time, and the direction of its imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spatialprobe

SOURCE = Path(spatialprobe.__file__).parent
HEAVY = {"matplotlib", "torchvision", "PIL", "zarr", "tqdm", "safetensors"}
CAPTURE = """
import torch, spatialprobe as sp
conv = torch.nn.Conv2d(1, 1, 1)
with sp.Probe(conv) as probe:
    conv(torch.ones(1, 1, 1, 1))
"""
# The layers of the package: a module imports only from its own package and from lower layers.
STOREYS = [
    {"errors", "text"},
    {"html_table", "notebook"},
    {"html_fields"},
    {"arguments", "tensors", "mappings"},
    {"storage", "examples"},
    {"model"},
    {
        "activations",
        "fields.taps",
        "fields.spacing",
        "fields.lattice",
        "fields.regrouping",
        "fields.bounds",
        "fields.intervals",
        "render.robust",
        "render.scale",
        "render.palette",
    },
    {"statistics", "fields", "render"},
    {"attribution", "comparison", "synthesis", "training"},
    {"evidence"},
    {"diagnosis"},
    {"report"},
    {"testing", "command"},
    {"__main__"},
]

# What may wait inside a function, or for a type checker: a method that shows what its object holds.
WAITING = {
    ("activations.records", "render.feature_maps"),
    ("activations.collection", "render.thumbnails"),
    ("fields.effective", "render.effective_map"),
    ("statistics.layouts", "fields.layout"),
    ("activations.capture", "fields.layout"),
}
# The plain result types that pictures name without depending on what makes them.
RESULTS = {"fields.box", "fields.effective", "fields.result", "statistics.exemplars", "statistics.histogram"}


@pytest.fixture(scope="module")
def loaded():
    """Return the modules that are loaded after each of some steps, which one new interpreter takes in this order."""
    steps = {
        "torch": "import torch",  # some of its versions load tqdm
        "capture": CAPTURE,
        "evidence": "assert sp.evidence.__name__ == 'spatialprobe.evidence'; sp.evidence.footprint",
        "diagnosis": "assert sp.diagnosis.__name__ == 'spatialprobe.diagnosis'",
        "examples": "assert sp.examples.__name__ == 'spatialprobe.examples'",
        "training": "sp.Monitor, sp.History",
        "testing": "assert sp.testing.__name__ == 'spatialprobe.testing'",
        "plot": "probe[''].plot()",
    }
    code = "\n".join(f"{step}\nimport sys; print(*sys.modules)" for step in steps.values())
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {step: set(line.split()) for step, line in zip(steps, result.stdout.splitlines(), strict=True)}


def brought(loaded, step):
    """Return the heavy packages that are loaded after a step, but not by torch itself."""
    return {name.split(".")[0] for name in loaded[step] - loaded["torch"]} & HEAVY


def test_import_is_light(loaded):
    """The package, a capture, and a monitor with its history load torch and numpy, but no package for drawing."""
    assert not brought(loaded, "capture")
    assert not brought(loaded, "examples")
    assert "spatialprobe.training.history" in loaded["training"]
    assert not brought(loaded, "training")


def test_light_import_test_can_fail(loaded):
    """The test above detects a heavy package."""
    assert brought(loaded, "plot") >= {"matplotlib", "PIL"}


def test_all_is_honest():
    """`__all__` is sorted and complete, and every name in it exists and has a docstring."""
    assert spatialprobe.__all__ == sorted(spatialprobe.__all__)
    assert set(spatialprobe.__all__) <= set(dir(spatialprobe))
    for name in spatialprobe.__all__:
        assert getattr(spatialprobe, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        spatialprobe.nothing  # noqa: B018


def test_evidence_is_found_when_asked_for(loaded):
    """`sp.evidence` is loaded at its first use, without an import of its own, and its names have docstrings."""
    assert not [name for name in loaded["capture"] if name.startswith("spatialprobe.evidence")]
    assert "spatialprobe.evidence.footprint" in loaded["evidence"]
    assert "evidence" in dir(spatialprobe)
    evidence = spatialprobe.evidence
    assert evidence.__all__ == sorted(evidence.__all__)
    for name in evidence.__all__:
        assert getattr(evidence, name).__doc__, name


@pytest.mark.parametrize("name", ["diagnosis", "examples", "testing"])
def test_packages_are_found_without_an_import_of_their_own(name, loaded):
    """Packages such as `sp.testing` can be used after `import spatialprobe as sp`."""
    assert f"spatialprobe.{name}" not in loaded["evidence"]
    assert f"spatialprobe.{name}" in loaded[name]


def test_error_tree_is_drawn():
    """Every error is public, and is shown in the tree in the module's docstring, with its builtin base class."""
    from spatialprobe import errors

    for name in errors.__all__:
        kind = getattr(errors, name)
        assert getattr(spatialprobe, name) is kind
        builtin = kind.__mro__[2] if kind is not errors.SpatialProbeError else Exception
        assert name in errors.__doc__
        assert kind is errors.SpatialProbeError or any(
            name in line and f"({builtin.__name__})" in line for line in errors.__doc__.splitlines()
        ), name


def storey(module):
    """Return on which storey a module such as `render.mosaic` stands."""
    package = module.split(".")[0]
    for height, rooms in enumerate(STOREYS):
        if module in rooms or (package in rooms and not any(module in lower for lower in STOREYS[:height])):
            return height
    raise AssertionError(f"{module} is on no storey")


def imports(path):
    """Return every import from this package in a file: the module, and the place of the statement.

    The place is "top", where it runs when the file is imported, "function", where it is deferred, or "types", where
    only a type checker reads it.
    """
    found = []

    def visit(node, where):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            where = "types"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            where = "function"
        found.extend((name.removeprefix("spatialprobe").lstrip("."), where) for name in imported_names(node))
        for child in ast.iter_child_nodes(node):
            visit(child, where)

    visit(ast.parse(path.read_text()), "top")
    return found


def imported_names(node):
    """Return the modules of this package that an import statement loads."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        inner = [f"{node.module}.{alias.name}" for alias in node.names]  # `from package import module`
        names = [one if is_module(one) else node.module for one in inner]
    else:
        assert not getattr(node, "level", 0), "relative imports hide where they point"
        names = []
    return dict.fromkeys(name for name in names if name.split(".")[0] == "spatialprobe" and name != "spatialprobe")


def is_module(name):
    """Return whether a dotted name is a module or a subpackage of this package."""
    place = SOURCE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def upward_imports(path, module):
    """Return the imports that point up or sideways and are not listed as allowed."""
    wrong = []
    for imported, where in imports(path):
        higher = storey(imported) > storey(module)
        beside = storey(imported) == storey(module) and imported.split(".")[0] != module.split(".")[0]
        allowed = (where == "types" and imported in RESULTS) or (where != "top" and (module, imported) in WAITING)
        if (higher or beside) and not allowed:
            wrong.append((imported, where))
    return wrong


@pytest.mark.parametrize(
    "path", [p for p in sorted(SOURCE.rglob("*.py")) if p != SOURCE / "__init__.py"], ids=lambda p: p.stem
)
def test_imports_point_down(path):
    """No module imports from a higher layer or from another package of its own layer, wherever the statement is."""
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    assert upward_imports(path, module) == []


def test_what_may_wait_does():
    """Each import in the list of deferred ones exists, so that the list stays short."""
    for module, imported in WAITING:
        place = SOURCE.joinpath(*module.split("."))
        assert imported in {name for name, where in imports(place.with_suffix(".py")) if where != "top"}, module


def test_layering_test_can_fail(tmp_path):
    """The test above detects imports that point up or sideways, in every form and place."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import spatialprobe.report.write\n"
        "from spatialprobe.render.mosaic import y\n"
        "from spatialprobe import evidence\n"
        "def f():\n    from spatialprobe.report import write\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from spatialprobe.render.mosaic import Mosaic\n"
        "    from spatialprobe.statistics.exemplars import ExemplarsResult\n"
    )
    assert upward_imports(wrong, "fields.receptive_fields") == [
        ("report.write", "top"),
        ("render.mosaic", "top"),
        ("evidence", "top"),
        ("report.write", "function"),
        ("render.mosaic", "types"),
    ]


# Modules that are loaded only to draw a figure.
PAGES = {"comparison_page.py", "drawing.py", "figures.py", "histogram_page.py", "history_page.py", "written.py"}


def test_matplotlib_is_imported_by_pages_and_pyplot_by_nothing():
    """Only the modules that draw figures import matplotlib at run time; none imports pyplot."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert "import pyplot" not in text
        assert "matplotlib.pyplot" not in text
        importing = [m for m in ast.walk(ast.parse(text)) if isinstance(m, (ast.ImportFrom, ast.Import))]
        modules = {getattr(m, "module", None) or m.names[0].name for m in importing if m.col_offset == 0}
        assert path.name in PAGES or not any(m.startswith("matplotlib") for m in modules), path


# Functions of torch that create a tensor on the default device unless they are passed one.
FACTORIES = {"arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "ones"}
FACTORIES |= {"rand", "randint", "randn", "randperm", "range", "scalar_tensor", "sparse_coo_tensor", "tensor", "zeros"}


def factory_calls(path):
    """Return the calls in a file of functions that create a tensor on the default device."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch" and node.func.attr in FACTORIES:
            yield node


def test_own_tensors_are_made_with_their_device_named():
    """The library passes a device whenever it creates a tensor, rather than using torch's default device."""
    unnamed = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in factory_calls(path)
        if "device" not in {word.arg for word in node.keywords}
    ]
    assert unnamed == []


def test_no_message_writes_the_article_of_a_type_itself():
    """Messages take the article of a type's name, "a" or "an", from `text.kind_of`, since names are not fixed."""
    written = [
        str(path.relative_to(SOURCE))
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"\b[Aa]n? \{type\(", path.read_text())
    ]
    assert written == []
