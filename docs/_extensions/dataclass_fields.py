"""The fields of a dataclass, with the comment beside each: shapes and units, as they stand in the source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # before napoleon reads the sections
    return {"parallel_read_safe": True}


def add_fields(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append an Attributes section before the first example."""
    if what != "class" or not is_dataclass(obj):
        return
    rows = [f"    {field}: {comment}" for field, comment in fields_of(obj)]
    if rows:
        place = next((i for i, line in enumerate(lines) if line.startswith(">>>")), len(lines))
        lines[place:place] = ["", "Attributes:", *rows, ""]


def fields_of(kind: type) -> list[tuple[str, str]]:
    """Each public field with its comment."""
    source = textwrap.dedent(inspect.getsource(kind))
    rows = source.splitlines()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = []
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
            tail = rows[(statement.end_lineno or 1) - 1][statement.end_col_offset :]
            if not field.startswith("_"):
                found.append((field, tail.partition("#")[2].strip() or "see above"))
    return found
